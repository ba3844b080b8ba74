"""Answered inside ComfyUI: what the node of a step becomes when its Config gets one more field."""

import importlib
from dataclasses import make_dataclass, replace
from types import ModuleType, SimpleNamespace
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
        "ran": ran(pack, step_node, edit.STEP),
        "always": prepared(pack, step_node),
        "second_gpu": second_gpu(pack),
    }


def ran(pack: ModuleType, step_node: ModuleType, step: Any) -> list[str]:
    """Lines under a node that chose its device and rasterizer by itself."""
    declared = importlib.import_module(f"{pack.__name__}.engine.steps.step")
    output = declared.Output("text", declared.Kind.TEXT, "A text.")
    toy = replace(step, run=lambda config, device: "made", inputs=(), outputs=(output,), note=lambda made: made,
                  figure=declared.Figure.NONE)  # fmt: skip
    node = step_node.node_of(toy)
    node.hidden = SimpleNamespace(unique_id=None)
    return node.execute(device="auto").ui["gs4d_notes"]


def prepared(pack: ModuleType, step_node: ModuleType) -> bool:
    """Whether the node finds itself changed each time."""
    step = importlib.import_module(f"{pack.__name__}.engine.steps.prepare_gpu").STEP
    node = step_node.node_of(step)
    return node.fingerprint_inputs(steps=1) != node.fingerprint_inputs(steps=1)


def second_gpu(pack: ModuleType) -> str:
    """What a graph that names a GPU of another machine is told."""
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    try:
        return str(host.device("cuda:7"))
    except ValueError as error:
        return str(error)
