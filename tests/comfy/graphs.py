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


TINY_EDIT = {"prompt": "make it gold", "views": "0 4 8", "resolution": 64, "steps": 2, "preview_every": 1}
TINY_FIT = {"iterations": 12, "preview_every": 4}
TINY_REFINE = {
    "prompt": "make it gold",
    "iterations": 3,
    "images_per_step": 2,
    "resolution": 64,
    "preview_every": 1,
}


def edit(info: dict[str, Any], guidance: dict[str, Any]) -> dict[str, Any]:
    """Load, train a little, edit three views, fit, refine, save, render, measure; `guidance` brings node "guidance"."""
    trained = train_and_render(
        info, seed=1
    )  # another seed: the server caches, and other tests want to see it train
    return {
        **guidance,
        "load": trained["load"],
        "train": trained["train"],
        "edit": node(
            info, "GS4D_EditViews", scene=["train", 0], guidance=["guidance", 0], video=["load", 0], **TINY_EDIT
        ),
        "edited": node(info, "PreviewImage", images=["edit", 1]),
        "originals": node(info, "PreviewImage", images=["edit", 2]),
        "fit": node(info, "GS4D_FitEdits", scene=["train", 0], views=["edit", 0], **TINY_FIT),
        "refine": node(
            info, "GS4D_RefineScore", scene=["fit", 0], guidance=["guidance", 0], video=["load", 0], **TINY_REFINE
        ),
        "save": node(info, "GS4D_Save4DScene", scene=["refine", 0], filename_prefix="gs4d/edited"),
        "path": node(info, "GS4D_CameraPath", scene=["refine", 0], frames=2, width=64, height=64),
        "render": node(info, "GS4D_Render4DScene", scene=["refine", 0], path=["path", 0]),
        "shown": node(info, "PreviewImage", images=["render", 0]),
        "measure": node(
            info, "GS4D_EvaluateEdit", scene=["refine", 0], original=["train", 0], views=["edit", 0], every=10, pictures=2
        ),
    }  # fmt: skip


def from_file(info: dict[str, Any], model: str) -> dict[str, Any]:
    return {"guidance": node(info, "GS4D_LoadGuidance", model=model)}


def from_wires(info: dict[str, Any], has_image_conditioning: bool = True) -> dict[str, Any]:
    return {
        "checkpoint": node(info, "Test_TinyCheckpoint", has_image_conditioning=has_image_conditioning),
        "guidance": node(
            info,
            "GS4D_GuidanceFromModel",
            model=["checkpoint", 0],
            clip=["checkpoint", 1],
            vae=["checkpoint", 2],
        ),
    }


TINY_FIELD = {
    "iterations": 10,
    "refiner": "small",
    "resolution": 64,
    "images_per_step": 2,
    "moments": "0 2",
    "preview_every": 5,
}
TINY_DELTA = {
    "source_prompt": "a person",
    "prompt": "a gold statue",
    "iterations": 4,
    "moments": "0 2",
    "preview_every": 2,
}
TINY_RETURN = {"views": "0 4 8", "moments": "0 2", "iterations": 10, "preview_every": 5}


def latent_edit(info: dict[str, Any], guidance: dict[str, Any]) -> dict[str, Any]:
    """Load, train a little, latent field, delta edit, pictures, scene; `guidance` brings node "guidance"."""
    trained = train_and_render(info, seed=2)  # another seed, as in `edit`
    model: dict[str, Any] = {"guidance": ["guidance", 0]}
    return {
        **guidance,
        "load": trained["load"],
        "train": trained["train"],
        "field": node(
            info, "GS4D_TrainLatentField", scene=["train", 0], video=["load", 0], **model, **TINY_FIELD
        ),
        "edit": node(info, "GS4D_DeltaEdit", field=["field", 0], **model, **TINY_DELTA),
        "decode": node(info, "GS4D_DecodeLatents", field=["edit", 0], views="0 4 8", **model),
        "decoded": node(info, "PreviewImage", images=["decode", 1]),
        "originals": node(info, "PreviewImage", images=["decode", 2]),
        "scene": node(info, "GS4D_LatentsToScene", field=["edit", 0], **model, **TINY_RETURN),
        "save": node(info, "GS4D_Save4DScene", scene=["scene", 0], filename_prefix="gs4d/delta"),
        "measure": node(
            info, "GS4D_EvaluateEdit", scene=["scene", 0], original=["train", 0], views=["decode", 0], every=10, pictures=2
        ),
    }  # fmt: skip
