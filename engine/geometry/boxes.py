"""Axis-aligned boxes [2, 3]: minimum and maximum corner."""

from __future__ import annotations

import torch
from torch import Tensor


def percentile_box(points: Tensor, interpolate: bool = False) -> Tensor:
    """The box [2, 3] (float64) from the 1st to the 99th percentile of `points` [P, 3] on each axis, without a margin.

    The few far outliers of a reconstruction stay outside. Its sides go through points, or with `interpolate`
    between them.
    """
    # sorted, since torch.quantile refuses more than 16 million numbers
    ordered = points.double().sort(dim=0).values
    corners: list[Tensor] = []
    for share in (0.01, 0.99):
        place = share * (len(ordered) - 1)
        below = ordered[int(place)]
        above = ordered[min(int(place) + 1, len(ordered) - 1)]
        corners.append(torch.lerp(below, above, place - int(place)) if interpolate else below)
    return torch.stack(corners)


def gaussian_bounds(means: Tensor) -> Tensor:
    """The box [2, 3] (float64) around `means` [N, 3] without the outermost 1 %, and a small margin."""
    # percentiles of a sample are good enough
    low, high = percentile_box(means[:: max(1, len(means) // 100_000)], interpolate=True)
    margin = 0.05 * (high - low).norm() + 1e-6
    return torch.stack([low - margin, high + margin])


def point_bounds(points: Tensor) -> Tensor:
    """The box [2, 3] (float64) around a reconstruction's `points` [P, 3] without the outermost 1 %, and a 10 % margin."""
    low, high = percentile_box(points)
    margin = 0.1 * (high - low) + 1e-6 * (high - low).max().clamp(min=1e-6)
    return torch.stack([low - margin, high + margin])
