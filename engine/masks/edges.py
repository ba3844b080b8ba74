"""Edges of masks: dilation, erosion and soft transitions."""

from __future__ import annotations

import torch
from torch import Tensor


def dilated(masks: Tensor, pixels: int) -> Tensor:
    """Masks [F, H, W] grown by a disk of that radius in pixels; negative shrinks them."""
    if pixels == 0:
        return masks
    radius = abs(pixels)
    steps = torch.arange(-radius, radius + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).float()[None, None]
    inside = masks[:, None] if pixels > 0 else 1 - masks[:, None]
    touched = (torch.nn.functional.conv2d(inside, disk, padding=radius)[:, 0] > 0.5).float()
    return touched if pixels > 0 else 1 - touched


def feathered(masks: Tensor, pixels: int) -> Tensor:
    """Masks [F, H, W] whose edge becomes a ramp about `pixels` wide, centered on it."""
    half = pixels // 2
    if half <= 0:
        return masks
    ramp = masks[:, None]
    # along rows, then along columns: a square window costs its area
    for size, pad in (((1, 2 * half + 1), (0, half)), ((2 * half + 1, 1), (half, 0))):
        ramp = torch.nn.functional.avg_pool2d(ramp, size, 1, pad, count_include_pad=False)
    return ramp[:, 0].clamp(0, 1)
