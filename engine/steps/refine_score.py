"""Refine an edited scene by score distillation: stage 2 of Instruct-4DGS (Kwon, Cho and Kim, CVPR 2025, section 3.4).

Each step renders a few random views at random frames, encodes them with gradients, and takes the score distillation
gradient of the diffusion model, conditioned on the unedited images of the same views and frames. The deformation is frozen
as in stage 1; the number of diffusion calls is the number of steps, however long the video. Changed: renders have the
model's own size; the loss is float32; random numbers come from one seeded generator, so that a resumed run ends on the
CPU with the same bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..diffusion import Backbone
from ..errors import InputError
from ..messages import Stream
from ..scene import MultiViewVideo, Scene4D, Selection
from ..train.memory_use import distilling
from ..train.refine_config import RefineConfig as Config
from ..train.refinement import ScoreRefinement
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


class RefineScore(ScoreRefinement):
    step_name = "refine_score"
    edits = EDITS

    def image_source(self, scene: Scene4D, video: MultiViewVideo | None, original: Scene4D | None) -> str:
        return _condition(self.config, scene, video, original)


def run(
    scene: Scene4D,
    backbone: Backbone,
    config: Config,
    video: MultiViewVideo | None = None,
    selection: Selection | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    original: Scene4D | None = None,
) -> Stream:
    """Refine an edited scene by score distillation.

    Args:
        scene: The edited scene; it is not changed.
        backbone: The diffusion model that the views were edited with.
        config: The prompt and the parameters of the refinement.
        video: The capture that the scene was trained on; its images condition the model.
        selection: Gaussians that may change; None allows all.
        device: Device to render and optimize on.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.
        original: The scene before this edit; its renders condition the model where the capture does not fit.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `Scene4D` on the input scene's device.

    Raises:
        InputError: An empty prompt or one that the model does not know, a selection of another scene, no source for images
            before the edit, or a step that produces NaN or infinite values.

    Source:
        Instruct-4DGS, Kwon, Cho and Kim, CVPR 2025, section 3.4 (stage 2).
    """
    work = RefineScore(scene, backbone, config, video, selection, device, original)
    width, height = work.size
    note = f"{config.images_per_step} of {len(work.pairs)} images of {width}×{height} per step, {backbone.name} on "
    note += f"{backbone.device}, conditioned on {work.source} originals"
    yield from work.stream(note, checkpoint)


def earlier_edits(scene: Scene4D, prompt: str) -> list[dict[str, Any]]:
    """History entries of edits before the present one, which is the last fit and its refinements with this prompt."""
    entries = [entry for entry in scene.history if entry.get("step") in EDITS]
    while (
        entries and entries[-1].get("step") == RefineScore.step_name and entries[-1].get("prompt") == prompt
    ):
        entries.pop()
    if entries and entries[-1].get("step") in ("fit_edits", "latents_to_scene"):
        entries.pop()
    return entries


def _condition(config: Config, scene: Scene4D, video: MultiViewVideo | None, original: Scene4D | None) -> str:
    """ "captured" or "rendered": where the unedited images come from. Raises InputError where there are none."""
    if config.condition != "auto":
        return config.condition
    if original is not None:
        edited = original.last_entry(*EDITS) is not None
        return "rendered" if video is None or edited else "captured"
    if earlier_edits(scene, config.prompt):
        raise InputError(
            "STP-025",
            "This scene was already edited before this edit, so the capture does not show it as it was. Connect the scene "
            "before this edit as 'original'.",
        )
    if video is None and scene.last_entry(*EDITS) is not None:
        raise InputError(
            "STP-026",
            "The model needs images of the scene before the edit. Connect the video that the scene was trained on, or the "
            "scene before the edit as 'original'.",
        )
    return "rendered" if video is None else "captured"


def summary(scene: Scene4D) -> str:
    """One line about the scene, and what its edit noted of the prompt."""
    note = scene.history[-1].get("note") if scene.history else None
    return "\n".join([scene.summary(), note] if note else [scene.summary()])


STEP = Step(
    name="refine_score",
    node="RefineScore",
    label="Refine with Score Distillation",
    category="4dgs/edit",
    description="Refines an edited scene from random views and frames with the diffusion model's gradients (SDS).",
    search=("instruct-4dgs", "stage 2", "sds", "score distillation"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The edited scene, from Fit Scene to Edited Views."),
        Input("backbone", Kind.GUIDANCE, "The model that the views were edited with.", id="guidance"),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on: its images condition the model instead of renders.",
            optional=True,
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
        Input(
            "original",
            Kind.SCENE,
            "The scene before this edit: its renders condition the model if there is no video, or if the scene had been "
            "edited before.",
            optional=True,
        ),
    ),
    outputs=(
        Output("scene_out", Kind.SCENE, "The refined scene, with the motion of the original.", "scene"),
    ),
    order="prompt iterations guidance_scale image_guidance_scale preset mutes_appearance max_seconds "
    "preview_every seed negative images_per_step weighting min_timestep max_timestep anneals condition "
    "resolution saves_memory position_rate color_rate opacity_rate scale_rate rotation_rate "
    "trains_deformation rasterizer checkpoint_seconds",
    verb="refine",
    resumes="refining",
    memory=distilling,
    lowers=("resolution", "images_per_step", "saves_memory"),
    figure=Figure.CURVES,
    note=summary,
)
