"""Image metrics as papers report them. Images [B, C, H, W] in [0, 1]; one value per image."""

from __future__ import annotations

import math
from typing import Any, overload

import torch
from torch import Tensor

from ..errors import InputError
from .photometric import ssim

__all__ = ["decibels", "lpips", "psnr", "ssim"]


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio: −10·log10 of the mean squared error over all channels.

    Args:
        a: Images [B, C, H, W] in 0..1.
        b: Images [B, C, H, W] in 0..1.
        mask: Weights of the pixels [B, H, W] in 0..1; None: all pixels.

    Returns:
        [B] in dB; infinite for equal images, NaN for an empty mask.
    """
    error = (a - b).square().mean(dim=1)
    if mask is None:
        return -10 * error.flatten(1).mean(dim=1).log10()
    weight = mask.to(error)
    return -10 * ((error * weight).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1)).log10()


@overload
def decibels(squared: float) -> float: ...
@overload
def decibels(squared: Tensor) -> Tensor: ...
def decibels(squared: float | Tensor) -> float | Tensor:
    """PSNR in dB of a mean squared error; 120 for zero error."""
    if isinstance(squared, Tensor):
        return -10 * squared.clamp(min=1e-12).log10()
    return -10 * math.log10(max(squared, 1e-12))


def lpips(a: Tensor, b: Tensor, network: Any, input_range: str = "standard") -> Tensor:
    """LPIPS distance. The two input ranges give different values, so report the range with every figure.

    Args:
        a: Images [B, 3, H, W] in 0..1.
        b: Images [B, 3, H, W] in 0..1.
        network: From `perceptual.load_lpips`.
        input_range: "standard" scales the images to −1..1; "3dgs" passes them as 0..1, as 3DGS's evaluation does.

    Returns:
        [B]; lower is more similar.

    Raises:
        InputError: Unknown input range.

    Source:
        Zhang et al., CVPR 2018.
    """
    if input_range not in ("standard", "3dgs"):
        raise InputError("LOS-001", f"LPIPS: input_range is '{input_range}'; choose standard or 3dgs.")
    with torch.no_grad():
        if input_range == "standard":
            a, b = 2 * a - 1, 2 * b - 1
        return network(a, b).flatten()
