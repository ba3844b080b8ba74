"""Refine an edited scene: stage 2 of Instruct-4DGS (Kwon, Cho and Kim, CVPR 2025, section 3.4), or more edited images.

Each step renders a few random views at random frames, encodes them with gradients, and takes the score distillation
gradient of the diffusion model, conditioned on the unedited images of the same views and frames. The deformation is frozen
as in stage 1; the number of diffusion calls is the number of steps, however long the video. Changed: renders have the
model's own size; the loss is float32; random numbers come from one seeded generator, so that a resumed run ends on the
CPU with the same bits. Added: for models whose own edit is better than their score, the objective "own edits" edits images of
further frames and fits the scene to them (see engine/train/own_edits.py).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from ..diffusion import Backbone
from ..diffusion.known_edits import check_prompt
from ..errors import InputError
from ..guidance.classifier_free import values_line
from ..messages import Stream
from ..scene import MultiViewVideo, Scene4D, Selection
from ..train.fitted_edit import StepNames, fitted_edit, obstacle
from ..train.memory_use import refining
from ..train.originals import check_original
from ..train.own_edits import FEW_STEPS, AnchoredFit, OwnEdits
from ..train.refine_config import RefineConfig as Config
from ..train.refinement import ScoreRefinement
from ..train.view_edit import ViewEditing
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


NAMES = StepNames("fit_edits", "refine_score", EDITS)


class RefineScore(ScoreRefinement):
    step_name = "refine_score"
    edits = EDITS

    def image_source(self, scene: Scene4D, video: MultiViewVideo | None, original: Scene4D | None) -> str:
        return _condition(self.config, scene, video, original)


class MoreViews(ViewEditing):
    step_name = "refine_score"
    edits = EDITS


class MoreFit(AnchoredFit):
    step_name = "refine_score"


class RefineOwnEdits(OwnEdits):
    step_name = "refine_score"
    editing_of = MoreViews
    fit_of = MoreFit
    names = NAMES


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
    """Refine an edited scene by score distillation, or by more edited images.

    Args:
        scene: The edited scene; it is not changed.
        backbone: The diffusion model that the views were edited with.
        config: The prompt and the parameters of the refinement.
        video: The capture that the scene was trained on; its images condition the model.
        selection: Gaussians that may change; None allows all.
        device: Device to render and optimize on.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.
        original: The scene before this edit; its renders condition the model, or are edited, where the capture does not fit.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `Scene4D` on the input scene's device.

    Raises:
        InputError: An empty prompt or one that the model does not know, a selection of another scene, no source for images
            before the edit, an original with other cameras or frames, or a step that produces NaN or infinite values.

    Source:
        Instruct-4DGS, Kwon, Cho and Kim, CVPR 2025, section 3.4 (stage 2).
    """
    begun = time.monotonic()
    check_instruction(backbone, config.prompt, config.force)
    if original is not None:
        check_original(scene, original)
    objective, why = _objective(config, scene, backbone)
    if objective == "own edits":
        source = _condition(config, scene, video, original)
        if source == "rendered" and original is None:
            # renders of the scene itself show the edit already
            raise _nothing_unedited()
        work = RefineOwnEdits(scene, backbone, config, source, video, original, selection, device)
        note = f"own edits of {len(work.added)} {source} images, {backbone.name} on {backbone.device}"
        note = "\n".join(filter(None, (note, work.note)))
        yield from work.stream(config, note, checkpoint, begun=begun)
        return
    work = RefineScore(scene, backbone, config, video, selection, device, original)
    width, height = work.size
    note = f"{why}{config.images_per_step} of {len(work.pairs)} images of {width}×{height} per step, {backbone.name} on "
    note += f"{backbone.device}, conditioned on {work.source} originals"
    yield from work.stream(note, checkpoint)


def _objective(config: Config, scene: Scene4D, backbone: Backbone) -> tuple[str, str]:
    """What is refined toward, and the reason where "auto" decides for the score, for the note."""
    if config.objective != "auto":
        return config.objective, ""
    if backbone.defaults.steps > FEW_STEPS or not backbone.has_image_conditioning:
        return (
            "score",
            f"objective score, since {backbone.name} is not an editor of at most {FEW_STEPS} steps; ",
        )
    fitted, reason = fitted_edit(scene, NAMES), obstacle(scene, config, NAMES)
    if fitted is not None and fitted.is_foreign:
        reason = "the scene was fitted to images of another editor"
    return ("score", f"objective score, since {reason}; ") if reason else ("own edits", "")


def check_instruction(backbone: Backbone, prompt: str, force: bool = False) -> None:
    """InputError for an empty prompt and, unless `force`, for one that the model does not know."""
    if not prompt.strip():
        raise InputError("STP-024", "The prompt is empty; describe the edit, such as 'make it night'.")
    check_prompt(backbone.known_edits, prompt, force)


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
        raise _nothing_unedited()
    return "rendered" if video is None else "captured"


def _nothing_unedited() -> InputError:
    return InputError(
        "STP-026",
        "The model needs images of the scene before the edit. Connect the video that the scene was trained on, or the "
        "scene before the edit as 'original'.",
    )


def summary(scene: Scene4D) -> str:
    """One line about the scene, one with the values that the model gave, and what its edit noted of the prompt."""
    made = scene.history[-1] if scene.history else {}
    # own edits keep them with the edit
    values = values_line(made) or values_line(made.get("edit") or {})
    return "\n".join(filter(None, (scene.summary(), values, made.get("note"))))


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
    memory=refining,
    lowers=("resolution", "images_per_step", "saves_memory"),
    figure=Figure.CURVES,
    note=summary,
)
