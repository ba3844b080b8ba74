"""Losses of GVFDiffusion's training, each with the weight of the paper as its default, and our own on known truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.losses.perceptual import load_lpips
from engine.losses.photometric import l1, ssim
from engine.models.variation_field.variation_vae import LOGVAR_RANGE

# one unit of each channel of a delta, so that all parts are learned at similar speed: positions, scales, quaternions,
# colors, opacities
UNITS = torch.tensor([0.3] * 3 + [0.5] * 3 + [1.0] * 4 + [2.0] * 3 + [5.0])
POSITIONS, SHAPES, LOOKS = slice(0, 3), slice(3, 10), slice(10, 14)


@dataclass(frozen=True)
class VaeWeights:
    """Weights of the losses.

    Args:
        l1: Of images.
        perceptual: LPIPS of images, or its stand-in (`perceptual_network`).
        structure: 1 − SSIM of images.
        mesh: L1 of displacements against those of the mesh, interpolated at each Gaussian (the released code's L1; the
            paper prints squared L2).
        kl: KL divergence of the latents.
        truth: L1 of all deltas against the truth, in UNITS; not in the paper, possible where data is made.
        attributes: Factor of `truth` for sizes and orientations.
        looks: Factor of `truth` for colors and opacities, which rarely change: with a small one, glows are ignored.
    """

    l1: float = 1.0
    perceptual: float = 0.2
    structure: float = 0.2
    mesh: float = 1.0
    kl: float = 1e-6
    truth: float = 0.0
    attributes: float = 0.2
    looks: float = 1.5


class RandomFeatures(nn.Module):
    """The stand-in "random features" where LPIPS' weights are absent: distances of unit features of a fixed random network.

    Three convolutions with weights of seed 0; distances as in LPIPS, without trained linear weights. Values of the two
    cannot be compared.
    """

    name = "random features"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = ((3, 16), (16, 32), (32, 64))
        self.weights = [torch.randn(o, i, 3, 3, generator=generator) / (3 * i**0.5) for i, o in sizes]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance [B] of images [B, 3, H, W] in −1..1."""
        total = a.new_zeros(len(a))
        for i, weight in enumerate(self.weights):
            a, b = (F.relu(F.conv2d(x, weight.to(x), stride=1 + (i > 0), padding=1)) for x in (a, b))
            # 0.1: where there is nothing, no direction is invented
            unit_a, unit_b = (x / (x.square().sum(1, keepdim=True) + 0.01).sqrt() for x in (a, b))
            total = total + (unit_a - unit_b).square().sum(1).mean((1, 2))
        return total


@cache
def perceptual_network(weights: Path | None = None) -> Any:
    """LPIPS with the weights in a file (engine/losses/perceptual.py), or the stand-in."""
    return RandomFeatures() if weights is None else load_lpips(weights)


def image_loss(drawn: Tensor, wanted: Tensor, weights: VaeWeights, network: Any) -> Tensor:
    """Loss of images [B, H, W, 3] in 0..1."""
    total = weights.l1 * l1(drawn, wanted)
    if weights.structure:
        total = total + weights.structure * (1 - ssim(drawn, wanted).mean())
    if weights.perceptual:
        a, b = (2 * x.permute(0, 3, 1, 2) - 1 for x in (drawn, wanted))
        total = total + weights.perceptual * network(a, b).mean()
    return total


def mesh_loss(deltas: Tensor, target: Tensor) -> Tensor:
    """L1 of predicted displacements in deltas [..., 14] against those of the mesh [..., 3]."""
    return (deltas[..., POSITIONS] - target).abs().mean()


def truth_loss(deltas: Tensor, truth: Tensor, attributes: float, looks: float) -> Tensor:
    """L1 of deltas [..., 14] in UNITS: positions, plus weighted means of sizes and orientations, and of colors and opacities."""
    apart = ((deltas - truth) / UNITS.to(deltas)).abs()
    return (
        apart[..., POSITIONS].mean()
        + attributes * apart[..., SHAPES].mean()
        + looks * apart[..., LOOKS].mean()
    )


def kl_loss(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence from the standard normal distribution, mean over everything."""
    logvar = logvar.clamp(*LOGVAR_RANGE)
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
