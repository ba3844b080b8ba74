"""Replace the background that a model painted in an edited image with the scene's own background."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

# coverage below which a pixel fades into the plain background
EMPTY = 0.02


def over_background(
    edited: Tensor, alphas: Tensor, background: Tensor, region: Tensor | None = None
) -> Tensor:
    """Composite edited images over the scene's background.

    An image editor repaints the background too ("night" makes white dark), which a scene on a plain background cannot
    reproduce. Blending by alpha alone would leave a fringe of the repainted background and remove half of every soft
    edge. Instead, the painted background b' near each pixel is estimated from uncovered pixels and replaced by the true
    one: e + (1 − α)(b − b'). If b' = b, nothing changes.

    Args:
        edited: Edited images e [F, H, W, 3] in 0..1.
        alphas: Coverage α of the scene [F, H, W] in 0..1.
        background: The scene's background color b [3] in 0..1.
        region: [F, H, W], 1 where the model painted; None: everywhere.

    Returns:
        Images [F, H, W, 3] in 0..1.
    """
    planes = edited.permute(0, 3, 1, 2)
    alpha = alphas[:, None].to(planes)
    b = background.to(planes)[None, :, None, None]
    empty = (1 - alpha * 10).clamp(0, 1)
    painted = _local_mean(planes, empty if region is None else empty * region[:, None].to(planes), b)
    exchanged = planes + (1 - alpha) * (b - painted)
    kept = (alpha / EMPTY).clamp(0, 1)
    return (kept * exchanged + (1 - kept) * b).clamp(0, 1).permute(0, 2, 3, 1).contiguous()


def _local_mean(planes: Tensor, weights: Tensor, otherwise: Tensor) -> Tensor:
    """Weighted mean [F, 3, H, W] over a neighborhood that grows until it has enough weight [F, 1, H, W].

    Push-pull (Gortler et al. 1996, section 3.4): sums over blocks of 4, 8, 16 … pixels; from coarse to fine, a block
    with enough weight uses its own mean. Without any weight the mean is `otherwise`.
    """
    sums, masses = [planes * weights], [weights]
    while max(sums[-1].shape[-2:]) > 1:
        sums.append(avg_pool2d(sums[-1], 2, ceil_mode=True))
        masses.append(avg_pool2d(masses[-1], 2, ceil_mode=True))
    mass = masses[-1]
    mean = torch.where(mass > 1e-6, sums[-1] / mass.clamp(min=1e-6), otherwise)
    for total, mass in zip(sums[-2:1:-1], masses[-2:1:-1], strict=True):
        mean = interpolate(mean, mass.shape[-2:], mode="bilinear", align_corners=False)
        trust = (mass / 0.1).clamp(0, 1)
        mean = trust * total / mass.clamp(min=1e-6) + (1 - trust) * mean
    return interpolate(mean, planes.shape[-2:], mode="bilinear", align_corners=False)
