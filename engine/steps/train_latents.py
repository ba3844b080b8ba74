"""Train a latent field: the scene as a diffusion model's autoencoder sees it (ED-NeRF, Park et al., ICLR 2024, 3.1-3.2).

Each image of the scene is encoded once. Gaussians with fixed geometry learn latent features, and from `warm_up` on a
refinement layer learns what independent rays lose. Changed: Gaussians instead of a voxel grid, for all frames at once;
features are initialized from colors by the best affine map, so that a few hundred steps are enough; the latent background
is trained from the first step.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..diffusion import Backbone
from ..guidance.delta import MISMATCH
from ..latent import LatentField
from ..messages import Stream
from ..scene import MultiViewVideo, Scene4D
from ..train.latent_training import LatentTraining
from ..train.latent_training_config import LatentTrainingConfig as Config
from ..train.memory_use import training_latents
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


class TrainLatents(LatentTraining):
    step_name = "train_latents"
    edits = EDITS


def run(
    scene: Scene4D,
    backbone: Backbone,
    config: Config = Config(),
    video: MultiViewVideo | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Train a latent field on a scene.

    Args:
        scene: The scene; it is not changed.
        backbone: The diffusion model whose autoencoder makes the latents.
        config: Parameters of the training.
        video: The capture that the scene was trained on; its images are encoded instead of renders.
        device: Device to train on.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `LatentField` on the input scene's device.

    Raises:
        InputError: A resolution that is not a multiple of the model's VAE scale factor, a model without a middle block to
            initialize the refinement layer, or an image that cannot be read.

    Source:
        ED-NeRF, Park et al., ICLR 2024, sections 3.1 and 3.2.
    """
    work = TrainLatents(scene, backbone, config, video, device)
    width, height = work.field.size
    c, factor = backbone.latent_channels, backbone.vae_scale_factor
    note = f"{len(work.pairs)} {work.source} images of {width}×{height} as {c} channels of "
    note += f"{width // factor}×{height // factor}, {backbone.name}"
    doubt = mismatch_warning(work.noise_missed())
    if doubt:
        note += f"; {doubt}"
    yield from work.stream(note, checkpoint)


def mismatch_warning(noise_missed: float) -> str:
    """A warning where the model does not know the autoencoder's latents, else empty."""
    if noise_missed <= MISMATCH:
        return ""
    return (
        f"warning: the model misses {noise_missed:.0%} of the noise in these latents, so they may come from another "
        "autoencoder (VAE) than the model's own"
    )


def summary(field: LatentField) -> str:
    """A few lines about a latent field and its images, with a warning where its model seems not to match."""
    trained = next((e for e in field.scene.history if e.get("step") == "train_latents"), {})
    warning = mismatch_warning(float(trained.get("noise_missed", 0)))
    images = f"trained on {trained['originals']} images" if "originals" in trained else ""
    return "\n".join(filter(None, (field.summary(), images, warning)))


STEP = Step(
    name="train_latents",
    node="TrainLatentField",
    label="Train Latent Field",
    category="4dgs/edit",
    description="Trains latents of a diffusion model's autoencoder on the scene's Gaussians, so that the scene can be edited "
    "without decoding images.",
    search=("ed-nerf", "latent nerf", "latent field", "refinement layer"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to edit later; it is not changed."),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "The model to edit with; its autoencoder makes the latents.",
            id="guidance",
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on: its images are encoded instead of renders.",
            optional=True,
        ),
    ),
    outputs=(Output("field_out", Kind.LATENTS, "For Delta Edit in Latent Space.", "latent field"),),
    order="iterations refiner resolution originals max_seconds preview_every seed images_per_step moments "
    "depends_on_direction warm_up field_weight refiner_weight feature_rate refiner_rate samples "
    "scale_floor rasterizer checkpoint_seconds",
    verb="train-latents",
    resumes="training",
    memory=training_latents,
    lowers=("resolution", "images_per_step", "samples"),
    figure=Figure.CURVES,
    note=summary,
)
