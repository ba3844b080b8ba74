"""The interface between guidance and a latent diffusion model, independent of how the model was loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InputError
from .cross_frame_attention import Attention
from .known_edits import KnownEdits
from .noise_schedule import DiscreteSchedule
from .precision import precision_note


@dataclass(frozen=True)
class ModelDefaults:
    """Recommended settings of a model; a step uses them where its config says 0.

    Args:
        steps: Denoising steps.
        guidance_scale: Text guidance scale s_T.
        image_guidance_scale: Image guidance scale s_I.
        resolution: Long side of the edited images, in pixels.
        min_timestep: Lower end of the timesteps for score distillation, as a fraction of the schedule.
        max_timestep: Upper end of the same range.
        keeps_detail: The model loses fine detail, so edited views take it from the originals.
    """

    steps: int = 20
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    resolution: int = 512
    min_timestep: float = 0.02
    max_timestep: float = 0.98
    keeps_detail: bool = False


@dataclass(frozen=True, eq=False)
class MidBlock:
    """The middle of an autoencoder's decoder: residual block, attention, residual block, all of one width.

    Args:
        groups: Groups of its GroupNorms.
        tensors: float32 CPU copies: conv_in (takes scaled latents), res1.*, attn.{norm,q,k,v,proj}, res2.*
    """

    groups: int
    tensors: Mapping[str, Tensor]


@runtime_checkable
class Backbone(Protocol):
    """A frozen latent diffusion model conditioned on text and, if `has_image_conditioning`, on an image.

    Images are [B, H, W, 3] float32 in 0..1. Latents are [B, C, H/f, W/f] float32 on `device`, whatever the precision of
    the weights; C is `latent_channels` and f is `vae_scale_factor`. No method keeps gradients of the weights.

    A video model has a `time_factor` k: wherever shapes are given below, images are videos [B, T, H, W, 3] and latents
    [B, C, T', h, w] with T = k (T' − 1) + 1 frames, because the first latent frame stands for one frame only.
    """

    # shown to users: a folder, a file, or "tiny-instruct-pix2pix"
    name: str
    # changes with the weights; part of every checkpoint key
    fingerprint: str
    # the network has extra channels for a conditioning image (InstructPix2Pix, image to video)
    has_image_conditioning: bool
    latent_channels: int
    # pixels per latent, along each side
    vae_scale_factor: int
    # frames per latent frame, except the first; None: the model makes images
    time_factor: int | None
    noise_schedule: DiscreteSchedule
    defaults: ModelDefaults
    # for a model trained on a closed list of edits; None: any prompt
    known_edits: KnownEdits | None
    device: torch.device

    @property
    def megabytes(self) -> int:
        """Memory of the weights, in MiB."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts; results are cached by prompt.

        Args:
            prompts: B prompts; "" is the unconditional one.

        Returns:
            Text states [B, S, D] as `predict` takes them.
        """
        ...

    def cut_short(self, prompt: str) -> tuple[int, int] | None:
        """(tokens of a prompt, tokens that are read) where the model reads only its start; None: it reads all of it."""
        ...

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode images to scaled latents. Differentiable in the images.

        Args:
            images: [B, H, W, 3] in 0..1.
            generator: Draws a sample of the posterior; None takes its mode.

        Returns:
            Latents [B, C, H/f, W/f], multiplied by the model's scaling factor.

        Raises:
            InputError: A side is not a multiple of `vae_scale_factor`.
        """
        ...

    def encode_image_latents(self, images: Tensor) -> Tensor:
        """Encode images as the condition of `predict` (InstructPix2Pix: the posterior's mode, not scaled).

        For a video model, the condition is the first frame: the latent frames after it are zero.

        Args:
            images: [B, H, W, 3] in 0..1.

        Returns:
            Condition [B, C, H/f, W/f].

        Raises:
            InputError: A side is not a multiple of `vae_scale_factor`.
        """
        ...

    def scaled(self, condition: Tensor) -> Tensor:
        """Convert a condition to scaled latents, so that each image is encoded only once.

        Args:
            condition: [B, C, h, w] from `encode_image_latents`.

        Returns:
            Latents [B, C, h, w] equal to those of `encode` without a generator; of a video only the first latent frame.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents. Differentiable in the latents.

        Args:
            latents: [B, C, h, w].

        Returns:
            Images [B, h·f, w·f, 3], not clamped.
        """
        ...

    def predict(
        self,
        noisy: Tensor,
        t: int,
        text: Tensor,
        condition: Tensor | None = None,
        sharing: Attention | None = None,
        camera: Tensor | None = None,
    ) -> Tensor:
        """Run the network once, without gradients.

        Args:
            noisy: Noisy latents [G·F, C, h, w] of F frames in each of G guidance branches.
            t: Timestep, 0 (clean) to T − 1 (noise).
            text: Text states [G·F, S, D].
            condition: [G·F, C, h, w]; required if `has_image_conditioning`, ignored otherwise.
            sharing: Attention among the F frames of each branch; None: frames are independent.
            camera: Plücker rays [G·F, T, H, W, 6] of the frames, for a video model with a camera condition; None: none.

        Returns:
            The raw network output [G·F, C, h, w]; `noise_schedule.prediction` says what it means.
        """
        ...

    def mid_block(self) -> MidBlock | None:
        """Weights to initialize a refinement layer from; None if the autoencoder lacks such a block."""
        ...


@runtime_checkable
class VideoBackbone(Backbone, Protocol):
    """A backbone with a time axis, as sampling needs it. Its `time_factor` is a number."""

    # frames of the videos that the model was trained on
    frames: int
    # sides of the images are multiples of it, in pixels
    size_multiple: int
    # time shift of weights that were trained with flow matching; None: they predict v
    flow_shift: float | None

    def latent_frames(self, frames: int) -> int:
        """Latent frames T' of a video.

        Args:
            frames: T.

        Raises:
            InputError: The model makes no video of that length; the error offers the nearest two.
        """
        ...

    def sampled_frames(self, frames: int) -> int:
        """Latent frames that sampling works on: T', and before them as many as fill a patch, which are dropped.

        `predict` takes latents with or without them, and condition and rays without them.

        Args:
            frames: T.

        Raises:
            InputError: The model makes no video of that length.
        """
        ...

    def first_frame(self, image: Tensor, frames: int) -> Tensor:
        """Encode the condition of an image-to-video model.

        Args:
            image: The first frame [B, H, W, 3] in 0..1.
            frames: T, the frames of the video.

        Returns:
            Condition [B, C, T', h, w]: the image's latents, then zeros.

        Raises:
            InputError: The model makes no video of that length or size.
        """
        ...


def check_makes_images(backbone: Backbone, work: str) -> None:
    """Refuse a video model where single images are made.

    Args:
        backbone: The model.
        work: What it is asked for, such as "editing views".

    Raises:
        InputError: It is a video model.
    """
    if backbone.time_factor is not None:
        raise InputError(
            "DIF-093",
            f"{backbone.name} is a video model, but {work} takes a model of single images. Load InstructPix2Pix, or Stable "
            "Diffusion 1.x or 2.x, with Load Diffusion Guidance.",
        )


def describe(backbone: Backbone, device: torch.device | None = None) -> str:
    """Say in a few lines what a model is, what it can do, and in which precision.

    Args:
        backbone: The model.
        device: Where it will compute; None: where it is.
    """
    if backbone.time_factor is not None:
        kind = "makes videos from an image" if backbone.has_image_conditioning else "makes videos from text"
    elif backbone.has_image_conditioning:
        kind = "edits images"
    else:
        kind = "has no conditioning image: score distillation and delta edits only"
    advised = backbone.defaults
    known = "" if backbone.known_edits is None else f"\n{backbone.known_edits.text()}"
    precision = precision_note(getattr(backbone, "dtype", None), device or backbone.device)
    computes = f"\nPrecision: {precision}" if precision else ""
    return (
        f"{backbone.name}: {kind}\n{backbone.latent_channels} latent channels, 1/{backbone.vae_scale_factor} size, advised: "
        f"{advised.steps} steps, {advised.resolution} pixels{computes}{known}"
    )
