"""Graphs in ComfyUI's API format, with every widget at its default but for what a test changes."""

from __future__ import annotations

from typing import Any

QUICK_TRAINING = {
    "iterations": 30,
    "budget": 600,
    "motion": "small",
    "preview_every": 5,
    "sh_degree": 0,
}


def node(info: dict[str, Any], kind: str, /, **inputs: Any) -> dict[str, Any]:
    """One node; widgets that are not named take the default that the server tells."""
    values: dict[str, Any] = {}
    for section in ("required", "optional"):
        for name, spec in info[kind]["input"].get(section, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            if "default" in options:
                values[name] = options["default"]
            elif spec[0] == "COMBO" and options.get("options"):
                values[name] = options["options"][0]
    unknown = set(inputs) - {n for s in info[kind]["input"].values() for n in s}
    assert not unknown, f"{kind} has no input {unknown}"
    return {"class_type": kind, "inputs": {**values, **inputs}}


def train_and_render(info: dict[str, Any], **training: Any) -> dict[str, Any]:
    """Load, train, save, move a camera, render, save a video, measure."""
    return {
        "load": node(info, "GS4D_LoadMultiViewVideo", scale=0.5),
        "check": node(info, "GS4D_PreflightCheck", video=["load", 0], moments=1),
        "train": node(info, "GS4D_Train4DScene", video=["load", 0], **{**QUICK_TRAINING, **training}),
        "save": node(info, "GS4D_Save4DScene", scene=["train", 0]),
        "path": node(info, "GS4D_CameraPath", scene=["train", 0], frames=6, width=65, height=64),
        "render": node(info, "GS4D_Render4DScene", scene=["train", 0], path=["path", 0], wants_flow=True),
        "depth": node(info, "PreviewImage", images=["render", 2]),
        "flow": node(info, "PreviewImage", images=["render", 3]),
        "video": node(info, "SaveVideo", video=["render", 4]),
        "measure": node(
            info, "GS4D_EvaluateScene", scene=["train", 0], video=["load", 0], every=12, pictures=2
        ),
        "pictures": node(info, "PreviewImage", images=["measure", 0]),
    }
