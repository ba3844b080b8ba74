"""The full-size variation field: steps of its VAE and of its transformer on the meta device.

Source: GVFDiffusion (Zhang et al., ICCV 2025) and its released configuration: batches of two samples on each of eight GPUs, twice
per step of the VAE; AdamW with a rate of 5e-5, weights averaged with 0.9999.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.variation_field import (
    Conditions,
    VariationDit,
    VariationDitShape,
    VariationVae,
    VariationVaeShape,
)
from engine.models.variation_field.conditions import CANONICAL_TOKENS
from training.common.full_size import Cost, cost

from .data import ClipShape
from .losses import truth_loss

VAE, DIT = VariationVaeShape(), VariationDitShape()
FRAMES, POINTS = 24, 8192
# of made clips, with fewer Gaussians than those of the paper
CLIP = ClipShape(FRAMES, POINTS, gaussians=8192, anchors=VAE.num_latents)
# tokens of an image from DINOv2 at 518 × 518 pixels
IMAGE_TOKENS = 37 * 37 + 1
# of a splat, eight for each of 8,192 voxels; TRELLIS' subjects have 5,000 to 25,000
GAUSSIANS = 65_536
LR, WARMUP, AVERAGE = 5e-5, 1000, 0.9999
BATCH, GPUS = 2, 8
VAE_STEPS, VAE_ACCUMULATE = 200_000, 2
DIT_STEPS = 1_300_000


def vae_step(
    batch: int = BATCH,
    shape: VariationVaeShape = VAE,
    frames: int = FRAMES,
    points: int = POINTS,
    gaussians: int = GAUSSIANS,
) -> Cost:
    """A step of the VAE of one process; without rendering."""

    def loss(vae: nn.Module) -> Tensor:
        assert isinstance(vae, VariationVae)
        size, anchors = shape.input_dim, torch.empty(batch, shape.num_latents, 3)
        changes = torch.empty(batch, frames, points, size)
        moved = torch.empty(batch, frames, shape.num_latents, size)
        mean, logvar = vae.encode_at(torch.empty(batch, points, 3), changes, anchors, moved)
        latents = mean + (0.5 * logvar).exp() * torch.empty_like(mean)
        deltas = vae.decode(latents, torch.empty(batch, gaussians, 14), anchors=anchors)
        return truth_loss(deltas, torch.empty_like(deltas), 1.0, 1.0) + logvar.mean()

    return cost(lambda: VariationVae(shape), loss)


def dit_step(
    batch: int = BATCH,
    shape: VariationDitShape = DIT,
    frames: int = FRAMES,
    anchors: int = VAE.num_latents,
    image_tokens: int = IMAGE_TOKENS,
    canonical_tokens: int = CANONICAL_TOKENS,
) -> Cost:
    """A step of the transformer of one process; latents and image tokens are those of frozen networks."""

    def loss(dit: nn.Module) -> Tensor:
        assert isinstance(dit, VariationDit)
        conditions = Conditions(
            torch.empty(batch, frames, image_tokens, shape.image_cond_channels),
            torch.empty(batch, canonical_tokens, shape.static_cond_channels),
            torch.empty(batch, anchors, 3),
        )
        x = torch.empty(batch, frames, anchors, shape.in_channels)
        return dit(x, torch.empty(batch), conditions).square().mean()

    return cost(lambda: VariationDit(shape), loss)
