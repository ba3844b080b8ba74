"""Answered inside ComfyUI: what the node of a step becomes when its Config gets one more field."""

import importlib
from dataclasses import make_dataclass, replace
from types import ModuleType
from typing import Any


def answer(pack: ModuleType) -> dict[str, Any]:
    importlib.import_module(f"{pack.__name__}.nodes").extension()
    step_node = importlib.import_module(f"{pack.__name__}.nodes.step_node")
    fields = importlib.import_module(f"{pack.__name__}.engine.fields")
    fit_edits = importlib.import_module(f"{pack.__name__}.engine.steps.fit_edits")
    edit = importlib.import_module(f"{pack.__name__}.engine.steps.evaluate_edit")
    new = fields.number(0.5, 0.0, 1.0, "How much it sparkles; typical 0.5.", label="glitter", since="9.1")
    config = make_dataclass("Config", [("sparkle", float, new)], bases=(fit_edits.Config,), frozen=True)
    grown = step_node.node_of(replace(fit_edits.STEP, config=config)).GET_NODE_INFO_V1()["input"]
    before = step_node.node_of(fit_edits.STEP).GET_NODE_INFO_V1()["input"]
    measuring = step_node.node_of(edit.STEP)
    return {
        "before": {section: list(inputs) for section, inputs in before.items()},
        "grown": {section: list(inputs) for section, inputs in grown.items()},
        "sparkle": grown["optional"]["sparkle"][1],
        "outside": measuring.validate_inputs(clip_folder="/etc", lpips_weights=""),
        "wired": measuring.validate_inputs(clip_folder=None, lpips_weights=""),
    }
