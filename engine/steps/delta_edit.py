"""Edit a latent field by delta denoising: ED-NeRF's editing (Park et al., ICLR 2024, section 3.3), for moving scenes.

Each step renders latents of a few views of a random frame and compares the diffusion model's predictions for two prompts:
the target prompt on the edited field, and the source prompt on the unedited one. No image is decoded or encoded, so a step
costs one call of the model. A lifted mask restricts the edit to the selected Gaussians and, rendered from each view, to
their latents; outside it, a reconstruction loss keeps the original. Plain score distillation is available as a baseline.
Changed: an appearance edit optimizes the features alone (optionally the refinement layer too); a shape edit also optimizes
the Gaussians. The deformation is frozen.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..diffusion import Backbone
from ..guidance.classifier_free import values_line
from ..latent import LatentField
from ..messages import Stream
from ..scene import MultiViewVideo, Selection
from ..train.delta import DeltaOptimization
from ..train.delta_config import DeltaConfig as Config
from ..train.memory_use import editing_latents
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


class DeltaEdit(DeltaOptimization):
    step_name = "delta_edit"
    edits = EDITS


def run(
    field: LatentField,
    backbone: Backbone,
    config: Config,
    selection: Selection | None = None,
    video: MultiViewVideo | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Edit a latent field along the difference between two prompts.

    Args:
        field: The latent field; it is not changed.
        backbone: The diffusion model that the field was trained with.
        config: The prompts and the parameters of the edit.
        selection: Gaussians that may change; None allows all.
        video: The capture that the scene was trained on, for captured conditioning images.
        device: Device to render and optimize on.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `LatentField` on the input field's device.

    Raises:
        InputError: A missing prompt or one that the model does not know, a field trained with another autoencoder, a
            selection of another scene, or a step that produces NaN or infinite values.

    Source:
        ED-NeRF, Park et al., ICLR 2024, section 3.3; delta denoising score, Hertz et al., ICCV 2023.
    """
    work = DeltaEdit(field, backbone, config, selection, video, device)
    note = f"{config.method} on {config.images_per_step} of {len(work.pairs)} views per step, {backbone.name} on "
    note += f"{backbone.device}, conditioned on {work.looks_at}"
    if selection is not None:
        chosen = int((selection.weights > 0).sum())
        note += f"; the mask selects {chosen} of {len(selection.weights)} Gaussians"
        if chosen == len(selection.weights):
            note += ", which is all of them, so nothing is preserved"
    yield from work.stream(note, checkpoint)


def summary(field: LatentField) -> str:
    """Two lines about the field, one with the values that the model gave, and what its edit noted of the prompts."""
    made = field.scene.history[-1] if field.scene.history else {}
    values = ""
    if "guidance_scales" in made:
        first, last = made["guidance_scales"]
        values = values_line({**made, "guidance_scale": first if first == last else [first, last]})
        values += f", conditioned on {made['looks_at']}"
        values += "" if made["looks_at"] == "nothing" else " originals"
    return "\n".join(filter(None, (field.summary(), values, made.get("note"))))


STEP = Step(
    name="delta_edit",
    node="DeltaEdit",
    label="Delta Edit in Latent Space",
    category="4dgs/edit",
    description="Edits a latent field along the difference between two prompts (delta denoising); what both prompts describe "
    "is preserved.",
    search=("ed-nerf", "dds", "delta denoising score", "sds", "prompt", "text edit"),
    config=Config,
    run=run,
    inputs=(
        Input("field", Kind.LATENTS, "From Train Latent Field.", "latent field"),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "The model whose autoencoder the latent field was trained with.",
            id="guidance",
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on, for captured conditioning images.",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "field_out",
            Kind.LATENTS,
            "The edited field, for Latent Field to Scene or Decode Latent Views.",
            "latent field",
        ),
    ),
    order="source_prompt prompt iterations guidance_scale image_guidance_scale frees method max_seconds "
    "preview_every seed negative looks_at originals images_per_step inside_weight outside_weight "
    "mask_threshold dilation final_guidance_scale min_timestep max_timestep anneals weighting optimizer "
    "feature_rate trains_refiner refiner_rate position_rate scale_rate rotation_rate opacity_rate views "
    "moments saves_memory rasterizer checkpoint_seconds",
    verb="delta-edit",
    resumes="editing",
    memory=editing_latents,
    lowers=("images_per_step", "saves_memory"),
    figure=Figure.CURVES,
    note=summary,
)
