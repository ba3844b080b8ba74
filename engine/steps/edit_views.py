"""Edit images of a scene with a prompt: InstructPix2Pix with cross-frame attention on views of one or more frames.

First step of Instruct-4DGS (Kwon et al., CVPR 2025). Changed: the edit may be restricted to selected Gaussians, be partial,
or start from an edited scene. Where the scene does not fill its images, the painted background is replaced by the scene's
own, since a scene stores a single background color.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..guidance.classifier_free import values_line
from ..messages import Stream
from ..scene import MultiViewVideo, Scene4D, Selection, ViewSet
from ..train.loop import optimize, resume
from ..train.memory_use import editing_views
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
    keep: Tensor | None = None,
) -> Stream:
    """Edit images of a scene with a prompt.

    Args:
        scene: The scene; it is not changed.
        backbone: A diffusion model with a conditioning image (InstructPix2Pix); the edit runs on its device.
        config: The prompt, which views and frames, and how the model is run.
        video: The capture that the scene was trained on; its images are edited instead of renders.
        selection: Gaussians that the edit may change; None allows all.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.
        clock: Seconds; the intervals of `config` count on it.
        device: Device to render on; None uses the scene's.
        keep: Masks [F, h, w] in 0..1 of what stays as it is, one per edited image in their order (frame by frame) or a
            single one for all, at any size of their shape; None keeps nothing.

    Yields:
        Started, Progress, Preview (originals above, edited images below), Saved, and Finished with a `ViewSet` on the CPU.

    Raises:
        InputError: An empty prompt or one that the model does not know, views or frames that do not exist, a model without
            a conditioning image, a selection of another scene, keep masks that do not fit the images, or nothing left to
            edit between selection and keep.

    Source:
        Instruct-4DGS, Kwon, Cho and Kim, CVPR 2025, first step.
    """
    scene = scene if device is None else scene.to(device)
    edit = ViewsEdit(scene, backbone, config, video, selection, keep)
    resumed = resume(edit, checkpoint)
    note = f"{len(edit.views)} {edit.source} images of {edit.views.size[0]}×{edit.views.size[1]} with {backbone.name} "
    note += f"on {backbone.device}"
    pace = Steps(edit.edit.total, config.preview_every, config.checkpoint_seconds)
    note = f"resumed at step {edit.iteration}; {note}" if resumed else note
    note = "\n".join(filter(None, (note, edit.note)))
    yield from optimize(edit, pace, note, checkpoint, clock)


def summary(views: ViewSet) -> str:
    """One or two lines about an edit."""
    width, height = views.size
    edit = views.edit or {}
    lines = [f"{len(views)} images, {width}×{height}, {edit.get('originals', '')} originals"]
    lines += [values_line(edit), str(edit.get("note", ""))]
    return "\n".join(filter(None, lines))


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
        Input(
            "keep",
            Kind.MASKS,
            "What stays as it is, such as eyes and mouth: one mask per edited image, in their order, or one for all. From "
            "Segment by Text, Head Region Mask or any mask node.",
            optional=True,
            since="0.2",
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
    memory=editing_views,
    lowers=("resolution", "frames_at_once"),
)
