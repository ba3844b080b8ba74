"""What guidance needs of a latent diffusion model, whoever loaded it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .cross_frame_attention import CrossFrameAttention
from .known_edits import KnownEdits
from .noise_schedule import NoiseSchedule


@dataclass(frozen=True)
class ModelDefaults:
    """What suits this model; steps take these where a config says 0."""

    steps: int = 20
    guidance_scale: float = 7.5  # s_T
    image_guidance_scale: float = 1.5  # s_I
    resolution: int = 512  # pixels of the long side
    min_timestep: float = 0.02  # of the schedule, for score distillation
    max_timestep: float = 0.98
    keeps_detail: bool = False  # it loses fine detail: edited views take it from the originals


@dataclass(frozen=True, eq=False)
class MidBlock:
    """The middle of an autoencoder's decoder: a residual block, attention, a residual block, all of one width."""

    groups: int  # of its GroupNorms
    tensors: Mapping[
        str, Tensor
    ]  # float32 CPU copies: conv_in (of scaled latents), res1.*, attn.{norm,q,k,v,proj}, res2.*


@runtime_checkable
class Backbone(Protocol):
    """A frozen text-conditional (and, where `has_image_conditioning`, picture-conditional) latent diffusion model.

    Images are [B, H, W, 3] float32 in 0..1, latents [B, C, H/factor, W/factor] float32 on `device`, whatever precision
    the weights have. Channel count, factor and scale are the model's own. No method keeps gradients of the weights.
    """

    name: str  # what an artist would recognise: folder, file, "tiny-instruct-pix2pix"
    fingerprint: str  # changes when the weights do: part of every checkpoint key
    has_image_conditioning: bool  # the UNet has channels for a conditioning picture (InstructPix2Pix)
    latent_channels: int
    vae_scale_factor: int  # pixels a latent, along each side
    noise_schedule: NoiseSchedule
    defaults: ModelDefaults
    known_edits: KnownEdits | None  # of a model that knows a closed list; None: any prompt
    device: torch.device

    @property
    def megabytes(self) -> int:
        """What the weights take."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """[B, S, D] text states, as `predict` wants them. Cached by prompt."""
        ...

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents times the model's scale: the posterior's mode, or a sample drawn with `generator`. Differentiable in
        the images. Raises InputError where a side is no multiple of the factor."""
        ...

    def encode_image_latents(self, images: Tensor) -> Tensor:
        """The latents that `predict` takes as picture condition (InstructPix2Pix: the mode, not scaled)."""
        ...

    def scaled(self, condition: Tensor) -> Tensor:
        """What `encode` gives without a generator, from what `encode_image_latents` gave: a picture is encoded once."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, H, W, 3], not clamped. Differentiable in the latents."""
        ...

    def predict(
        self,
        noisy: Tensor,  # [G·F, C, h, w]
        t: int,
        text: Tensor,  # [G·F, S, D]
        condition: Tensor | None = None,  # [G·F, C, h, w], wanted where has_image_conditioning
        sharing: CrossFrameAttention
        | None = None,  # attention shared among the F frames of each of G branches
    ) -> Tensor:
        """The network's own output (noising.prediction says what it means), without gradient."""
        ...

    def mid_block(self) -> MidBlock | None:
        """For a refinement layer that starts from it; None where the autoencoder has none of this kind."""
        ...
