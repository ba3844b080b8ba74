"""Edit images of a scene with one sentence: InstructPix2Pix on views of one or more frames, made to agree.

First step of Instruct-4DGS (Kwon et al., CVPR 2025). Changed: the edit may be limited to selected Gaussians, be partial,
start from an already edited scene; and where the scene does not fill its images, what the model painted behind it is
exchanged for the scene's own background, which is all that a scene can hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..diffusion import Backbone
from ..messages import Stream
from ..scene import MultiViewVideo, Scene4D, Selection, ViewSet
from ..train.loop import optimize, resume
from ..train.view_edit import Steps, ViewEditing
from ..train.view_edit_config import ViewEditConfig as Config
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


class ViewsEdit(ViewEditing):
    step_name = "edit_views"
    edits = EDITS


def run(
    scene: Scene4D,
    backbone: Backbone,
    config: Config,
    video: MultiViewVideo | None = None,
    selection: Selection | None = None,
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    device: torch.device | str | None = None,
) -> Stream:
    """Started, Progress, Preview (originals above, edits below), Saved …, Finished(ViewSet on the CPU).

    Diffusion runs on the backbone's device, rendering on `device` (default: the scene's). Closing the generator writes
    `checkpoint`, and the same call resumes with the same bits; the file is removed when the generator goes on after
    Finished. Raises InputError for an empty prompt or one that the model does not know, views or frames that do not
    exist, a model without a conditioning image, a selection of another scene.
    """
    scene = scene if device is None else scene.to(device)
    edit = ViewsEdit(scene, backbone, config, video, selection)
    resumed = resume(edit, checkpoint)
    note = f"{len(edit.views)} {edit.source} images of {edit.views.size[0]}×{edit.views.size[1]} with {backbone.name} "
    note += f"on {backbone.device}"
    pace = Steps(edit.edit.total, config.preview_every, config.checkpoint_seconds)
    note = f"resumed at step {edit.iteration}; {note}" if resumed else note
    note = "\n".join(filter(None, (note, edit.prompt_note)))
    yield from optimize(edit, pace, note, checkpoint, clock)


def summary(views: ViewSet) -> str:
    """One or two lines about an edit."""
    width, height = views.size
    edit = views.edit or {}
    lines = [f"{len(views)} images, {width}×{height}, {edit.get('originals', '')} originals"]
    if edit:
        lines.append(
            f"{edit.get('steps')} steps, guidance scale {edit.get('guidance_scale'):g}, image guidance scale "
            f"{edit.get('image_guidance_scale'):g}"
        )
    if edit.get("note"):
        lines.append(str(edit["note"]))
    return "\n".join(lines)


STEP = Step(
    name="edit_views",
    node="EditViews",
    label="Edit Views with Prompt",
    category="4dgs/edit",
    description="Edits images of the scene with a prompt so that they agree with each other (InstructPix2Pix with "
    "cross-frame attention). Check them, then fit the scene to them.",
    search=("instruct-4dgs", "instruct pix2pix", "ip2p", "prompt", "text edit"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to edit; it is not changed."),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "An InstructPix2Pix model, from Load Diffusion Guidance.",
            id="guidance",
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on: its images are edited instead of renders.",
            optional=True,
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
    ),
    outputs=(
        Output("views_out", Kind.VIEWS, "Edited views for Fit Scene to Edited Views.", "views"),
        Output("edited", Kind.IMAGES, "The edited images, as a batch.", of=lambda views: views.images),
        Output(
            "originals_out",
            Kind.IMAGES,
            "The images before the edit.",
            "originals",
            of=lambda views: views.originals,
        ),
    ),
    resumes="editing",
    figure=Figure.BEFORE_AFTER,
    note=summary,
)
