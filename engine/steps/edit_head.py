"""Edit a head avatar with a prompt in rounds, keeping its expression (Edit3DGS; see engine/train/head_edit.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..diffusion import Backbone
from ..guidance.classifier_free import values_line
from ..heads import Head
from ..messages import Stream
from ..scene import Scene4D, Selection
from ..train.head_edit import HeadEditing
from ..train.head_edit_config import HeadEditConfig as Config
from ..train.memory_use import editing_head
from ..train.view_edit import ViewEditing
from ..train.view_fit import ViewFit
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


class HeadViews(ViewEditing):
    step_name = "edit_head"
    edits = EDITS


class HeadFit(ViewFit):
    step_name = "edit_head"


class HeadEdit(HeadEditing):
    step_name = "edit_head"
    editing_of = HeadViews
    fit_of = HeadFit


def run(
    scene: Scene4D,
    head: Head,
    backbone: Backbone,
    config: Config,
    device: torch.device | str = "cpu",
    selection: Selection | None = None,
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Edit a head avatar with a prompt.

    Args:
        scene: A scene whose Gaussians are bound to a head; it is not changed.
        head: The head model that it was trained with; its motion is not used.
        backbone: A diffusion model with image conditioning (InstructPix2Pix); edits run on its device.
        config: The prompt, the rounds, and what is kept.
        device: Device to render and fit on.
        selection: Gaussians that may change; None: all.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.
        clock: Seconds; the limits and intervals of `config` count on it.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `Scene4D`. Bindings and head parameters are bit-identical.

    Raises:
        InputError: The prompt is empty or unknown to the model, the scene has no head or another one, or a view or frame
            does not exist.

    Source:
        Edit3DGS, sections 3 and 4; DGE (ECCV 2024) for the noise levels.
    """
    begun = clock()
    work = HeadEdit(scene, head, backbone, config, selection, device)
    frames = "; ".join(" ".join(map(str, r.frames)) for r in work.rounds)
    note = f"{len(work.rounds)} rounds at the noise levels {config.levels}, frames {frames}"
    yield from work.stream(config, note, checkpoint, clock, begun)


def summary(scene: Scene4D) -> str:
    """One line about the scene, one with the values that the model and the preset gave, and what the edit noted."""
    made = scene.history[-1] if scene.history else {}
    values = ""
    if "iterations_per_frame" in made:
        values = (
            f"{values_line(made)}, {made['iterations_per_frame']} fitting steps per frame, mouth pin weight "
        )
        values += f"{made['pin_weight']:g}"
    return "\n".join(filter(None, (scene.summary(), values, made.get("note"))))


STEP = Step(
    name="edit_head",
    node="EditHeadAvatar",
    label="Edit Head Avatar",
    category="4dgs/heads",
    description="Edits a head avatar with a prompt in rounds: edit images of several frames, fit the Gaussians to them, repeat.",
    search=("edit3dgs", "avatar editing", "talking head", "instruct"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "A scene trained with a head."),
        Input("head", Kind.HEAD, "The head model that the scene was trained with."),
        Input("backbone", Kind.GUIDANCE, "A diffusion model, from Load Diffusion Guidance.", id="guidance"),
        Input(
            "selection",
            Kind.SELECTION,
            "Gaussians that may change, from Head Region Mask or Lift Mask; all if not connected.",
            optional=True,
        ),
    ),
    outputs=(Output("scene_out", Kind.SCENE, "The edited scene; it still follows the head.", "scene"),),
    verb="edit-head",
    resumes="head edit",
    memory=editing_head,
    lowers=("resolution", "frames_per_round"),
    figure=Figure.CURVES,
    note=summary,
)
