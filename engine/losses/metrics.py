"""Numbers that judge pictures; definitions as the papers' evaluation code has them. Images [B, C, H, W] in 0..1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .photometric import C2, blur, ssim

__all__ = ["d_ssim", "ms_ssim", "psnr", "ssim"]

MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio per image [B] in dB, over all channels; infinite for equal images.

    With `mask` [B, H, W] (bool), over the pixels inside alone.
    """
    error = (a - b).square()
    if mask is None:
        mean = error.mean(dim=(1, 2, 3))
    else:
        inside = mask[:, None].to(error)
        mean = (error * inside).sum(dim=(1, 2, 3)) / (inside.sum(dim=(1, 2, 3)) * a.shape[1])
    return -10 * torch.log10(mean)


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale SSIM per image [B] (Wang et al. 2003); scales that a small picture cannot have are left out."""
    scales = max(1, min(len(MS_WEIGHTS), int(torch.tensor(min(a.shape[-2:]) / 11).log2().floor()) + 1))
    weights = torch.tensor(MS_WEIGHTS[:scales]).to(a)
    weights = weights / weights.sum()
    result = torch.ones(len(a)).to(a)
    for scale in range(scales):
        if scale == scales - 1:
            return result * ssim(a, b).clamp(min=0) ** weights[scale]
        mean_a, mean_b, aa, bb, ab = blur(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
        variance = aa - mean_a**2 + bb - mean_b**2
        contrast = ((2 * (ab - mean_a * mean_b) + C2) / (variance + C2)).mean(dim=(1, 2, 3))
        result = result * contrast.clamp(min=0) ** weights[scale]
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result


def d_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural dissimilarity per image [B]: (1 − MS-SSIM) / 2, as Neu3D reports it."""
    return (1 - ms_ssim(a, b)) / 2
