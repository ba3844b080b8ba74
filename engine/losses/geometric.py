"""Losses of a scene's geometry: rendered depth against depth maps, and its motion against tracked points.

Source: Diff4Splat (arXiv 2511.00503): 1 − Pearson for depth, λ‖Δx‖₂ + ‖Δx‖₁ for tracks; the aligned depth loss is that of
MiDaS (Ranftl et al. 2020, eq. 5).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# λ of the track loss
EUCLIDEAN_WEIGHT = 2.0
# relative to the values; what varies less is constant
SMALLEST_SPREAD = 1e-6


def pearson_depth(rendered: Tensor, depth: Tensor) -> Tensor:
    """1 minus the correlation of two depths, which a scale above 0 and a shift of either one do not change.

    Args:
        rendered: Depths [P] of the same pixels; differentiable.
        depth: Depths [P] to compare with.

    Returns:
        A scalar from 0 (related linearly) to 2 (inverted); 0 without a gradient if `depth` is constant or P is below 2.
    """
    if _is_constant(depth):
        return rendered.sum() * 0
    a, b = rendered - rendered.mean(), depth - depth.mean()
    floor = SMALLEST_SPREAD * (rendered.detach().norm() + 1e-12)
    return 1 - (a * b).sum() / (a.norm().clamp(min=floor) * b.norm())


def aligned_depth(rendered: Tensor, depth: Tensor) -> Tensor:
    """Mean absolute difference of two depths, each shifted by its median and divided by its mean deviation from it.

    A scale above 0 and a shift of either one do not change it. Arguments and special cases are those of `pearson_depth`;
    wrong values far from the others count less here.
    """
    if _is_constant(depth):
        return rendered.sum() * 0
    return (_normalized(rendered) - _normalized(depth)).abs().mean()


def _normalized(depth: Tensor) -> Tensor:
    shifted = depth - depth.median()
    floor = SMALLEST_SPREAD * (depth.detach().abs().mean() + 1e-12)
    return shifted / shifted.abs().mean().clamp(min=floor)


def _is_constant(depth: Tensor) -> bool:
    if depth.numel() < 2:
        return True
    spread = (depth - depth.mean()).abs().max()
    return bool(spread <= SMALLEST_SPREAD * depth.abs().max())


# by the names of the training's option
DEPTH_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "correlation": pearson_depth,
    "aligned": aligned_depth,
}


def track_loss(moved: Tensor, tracked: Tensor, size: tuple[int, int]) -> Tensor:
    """How far the projected motion of a scene ends from where points were tracked to.

    Args:
        moved: Pixels [P, 2] where the scene's motion ends; differentiable.
        tracked: Pixels [P, 2] where the points were seen.
        size: (width, height) of the image; distances are fractions of the larger one.

    Returns:
        A scalar: the mean of 2‖Δ‖₂ + ‖Δ‖₁, 0 where the scene moves as the points do or P is 0.
    """
    if not len(moved):
        return moved.sum()
    difference = (moved - tracked) / max(size)
    # the square root has no gradient at 0
    euclidean = (difference.square().sum(-1) + 1e-16).sqrt() - 1e-8
    return (EUCLIDEAN_WEIGHT * euclidean + difference.abs().sum(-1)).mean()
