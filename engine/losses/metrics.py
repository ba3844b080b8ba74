"""Image metrics as papers report them. Images [B, C, H, W] in [0, 1]; one value per image."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .photometric import ssim

__all__ = ["decibels", "lpips", "psnr", "ssim"]


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """−10·log10 of the mean squared error over all channels [B], in dB; infinite for equal images.

    With `mask` [B, H, W] only its pixels count (weighted where it is soft); NaN where a mask is empty.
    """
    error = (a - b).square().mean(dim=1)
    if mask is None:
        return -10 * error.flatten(1).mean(dim=1).log10()
    weight = mask.to(error)
    return -10 * ((error * weight).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1)).log10()


def decibels(squared: float) -> float:
    """PSNR in dB of a mean squared error; 120 for none at all."""
    return -10 * math.log10(max(squared, 1e-12))


def lpips(a: Tensor, b: Tensor, network: Any, input_range: str = "standard") -> Tensor:
    """LPIPS [B] with a network of perceptual.load_lpips. `input_range` "standard" feeds [-1, 1]; "3dgs" feeds [0, 1].

    The two give different numbers: say which with every figure.
    """
    if input_range not in ("standard", "3dgs"):
        raise InputError("LOS-001", f"LPIPS: input_range is '{input_range}'; choose standard or 3dgs.")
    with torch.no_grad():
        if input_range == "standard":
            a, b = 2 * a - 1, 2 * b - 1
        return network(a, b).flatten()
