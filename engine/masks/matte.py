"""What stands behind an edited picture: the scene's own background, not what the model painted there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

EMPTY = 0.1  # coverage below which a pixel fades into plain background


def over_background(edited: Tensor, alphas: Tensor, background: Tensor) -> Tensor:
    """Edited pictures [F, H, W, 3] with the scene's background [3] where its coverage [F, H, W] leaves room.

    An image editor repaints the background too (night makes white dark), which a scene on a plain background cannot
    hold. Blending by alpha alone would leave a seam of the repainted background and eat half of every soft edge; so the
    painted background b' near each pixel is estimated from uncovered pixels and exchanged for the true one:
    e + (1 − α)(b − b'). Where b' = b nothing changes at all.
    """
    planes = edited.permute(0, 3, 1, 2)
    alpha = alphas[:, None].to(planes)
    painted = _local_mean(planes, (1 - alpha * 4).clamp(0, 1))
    b = background.to(planes)[None, :, None, None]
    exchanged = planes + (1 - alpha) * (b - painted)
    kept = (alpha / EMPTY).clamp(0, 1)
    return (kept * exchanged + (1 - kept) * b).clamp(0, 1).permute(0, 2, 3, 1).contiguous()


def _local_mean(planes: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean [F, 3, H, W] over a neighbourhood that grows until it holds some weight [F, 1, H, W]."""
    height, width = planes.shape[-2:]
    total = (planes * weights).sum((2, 3), keepdim=True)
    mass = weights.sum((2, 3), keepdim=True)
    mean = torch.where(mass > 0, total / mass.clamp(min=1e-6), planes)
    # from wide to narrow: a narrower window wins where it holds enough
    for radius in (32, 16, 8, 4):
        if 2 * radius + 1 > 2 * max(height, width):
            continue
        window = 2 * radius + 1
        near = avg_pool2d(weights, window, 1, radius, count_include_pad=False)
        local = avg_pool2d(planes * weights, window, 1, radius, count_include_pad=False) / near.clamp(
            min=1e-6
        )
        trust = (near / 0.1).clamp(0, 1)
        mean = trust * local + (1 - trust) * mean
    return mean
