"""Image metrics as papers report them. Images [B, C, H, W] in [0, 1]; one value per image."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .photometric import C1, C2, RADIUS, SIGMA, ssim

__all__ = ["d_ssim", "decibels", "lpips", "ms_ssim", "psnr", "ssim"]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003, section 3.2


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


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale SSIM [B] (Wang et al. 2003): five scales, 11×11 Gaussian window without padding, 2×2 means between.

    Raises InputError for images smaller than 161 pixels on a side, where the window would not fit the last scale.
    """
    smallest = (2 * RADIUS) * 2 ** (len(MS_SSIM_WEIGHTS) - 1) + 1
    if min(a.shape[-2:]) < smallest:
        raise InputError(
            f"MS-SSIM: the images are {a.shape[3]}×{a.shape[2]} pixels; at least {smallest} on each side are "
            "needed, so compare larger images or use SSIM."
        )
    taps = torch.exp(-torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64).square() / (2 * SIGMA**2))
    taps = (taps / taps.sum()).to(a)
    result = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            padding = [size % 2 for size in a.shape[-2:]]
            a, b = (F.avg_pool2d(x, 2, padding=padding) for x in (a, b))
        stacked = torch.stack([a, b, a * a, b * b, a * b])
        flat = stacked.reshape(-1, 1, *stacked.shape[-2:])
        flat = F.conv2d(F.conv2d(flat, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
        mean_a, mean_b, aa, bb, ab = flat.reshape(*stacked.shape[:3], *flat.shape[-2:]).unbind(0)
        structure = (2 * (ab - mean_a * mean_b) + C2) / (aa - mean_a**2 + bb - mean_b**2 + C2)
        if scale == len(MS_SSIM_WEIGHTS) - 1:
            structure = structure * (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
        result = result * structure.mean(dim=(-2, -1)).clamp(min=0) ** weight
    return result.mean(dim=1)


def d_ssim(a: Tensor, b: Tensor) -> Tensor:
    """(1 − MS-SSIM) / 2 [B], the structural dissimilarity reported for Neural 3D Video."""
    return (1 - ms_ssim(a, b)) / 2


def lpips(a: Tensor, b: Tensor, network: Any, input_range: str = "standard") -> Tensor:
    """LPIPS [B] with a network of perceptual.load_lpips. `input_range` "standard" feeds [-1, 1]; "3dgs" feeds [0, 1].

    The two give different numbers: say which with every figure.
    """
    if input_range not in ("standard", "3dgs"):
        raise InputError(f"LPIPS: input_range is '{input_range}'; choose standard or 3dgs.")
    with torch.no_grad():
        if input_range == "standard":
            a, b = 2 * a - 1, 2 * b - 1
        return network(a, b).flatten()
