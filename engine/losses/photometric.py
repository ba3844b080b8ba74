"""Differences between pictures that a fit minimises: L1 and structural similarity."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

C1, C2 = 0.01**2, 0.03**2
WINDOW, SIGMA = 11, 1.5


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference (any equal shapes)."""
    return (a - b).abs().mean()


@lru_cache(maxsize=32)
def _band(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix [size, size] that blurs a line of `size` pixels with the Gaussian window, zeros beyond its ends.

    A blur as a matrix product: on a CPU two small products beat eleven-tap convolutions severalfold, backward too.
    """
    offsets = torch.arange(size, dtype=torch.float64)
    distance = offsets[:, None] - offsets[None]
    taps = torch.exp(-(torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2 / (2 * SIGMA**2))
    band = torch.exp(-(distance**2) / (2 * SIGMA**2)) / taps.sum()
    return torch.where(distance.abs() <= WINDOW // 2, band, 0).to(dtype).to(device)


def blur(x: Tensor) -> Tensor:
    """Images [B, C, H, W] blurred with the 11 × 11 Gaussian window of SSIM, zeros outside."""
    rows, columns = x.shape[-2:]
    if max(rows, columns) <= 640:
        return _band(rows, x.dtype, x.device) @ x @ _band(columns, x.dtype, x.device)
    taps = torch.exp(-(torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2 / (2 * SIGMA**2))
    taps = (taps / taps.sum()).to(x)
    flat = x.flatten(0, 1)[:, None]  # [B·C, 1, H, W]
    flat = F.conv2d(flat, taps.view(1, 1, -1, 1), padding=(WINDOW // 2, 0))
    return F.conv2d(flat, taps.view(1, 1, 1, -1), padding=(0, WINDOW // 2)).view_as(x)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity [B, C, H, W] of images [B, C, H, W] (Wang et al. 2004; 3DGS's window and zero padding)."""
    mean_a, mean_b, aa, bb, ab = blur(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
    var_a, var_b, cov = aa - mean_a * mean_a, bb - mean_b * mean_b, ab - mean_a * mean_b
    top = (2 * mean_a * mean_b + C1) * (2 * cov + C2)
    return top / ((mean_a * mean_a + mean_b * mean_b + C1) * (var_a + var_b + C2))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per image [B]: the mean over channels and pixels, borders included."""
    return ssim_map(a, b).mean(dim=(1, 2, 3))
