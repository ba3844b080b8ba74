"""Regularizers of HexPlane grids.

Source: 4D-GS (Wu et al., CVPR 2024), section 4.3; definitions as in its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# indices into (xy, xz, xt, yz, yt, zt)
SPACE_PLANES, TIME_PLANES = (0, 1, 3), (2, 4, 5)


class _SecondDifference(torch.autograd.Function):
    """Mean square of the second difference along the height, with an explicit gradient."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor) -> Tensor:
        difference = plane[..., 2:, :] - 2 * plane[..., 1:-1, :]
        difference += plane[..., :-2, :]
        ctx.save_for_backward(difference)
        return difference.square().mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (difference,) = ctx.saved_tensors
        scaled = difference * (grads[0] * (2 / difference.numel()))
        shape = list(scaled.shape)
        shape[-2] += 2
        result = scaled.new_zeros(shape)
        result[..., 2:, :] = scaled
        result[..., :-2, :] += scaled
        result[..., 1:-1, :].sub_(scaled, alpha=2)
        return result


def second_difference(plane: Tensor) -> Tensor:
    """Mean square of the second difference of a plane [1, C, H, W] along its height; 0 if H < 3."""
    if plane.shape[-2] < 3:
        return plane.sum() * 0.0
    return _SecondDifference.apply(plane)  # pyright: ignore[reportReturnType]


def plane_smoothness(planes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum of `second_difference` over the spatial planes of all levels.

    The paper calls it total variation, but its code measures curvature, not slope, and along one axis only.

    Args:
        planes: 6 planes [1, C, H, W] per level.
    """
    return _total(second_difference(level[i]) for level in planes for i in SPACE_PLANES)


def time_smoothness(planes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum of `second_difference` over the time planes, whose height is the time; see `plane_smoothness`."""
    return _total(second_difference(level[i]) for level in planes for i in TIME_PLANES)


def time_l1(planes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum over the time planes of mean |1 − plane|; it favors static regions, because planes of ones do not move."""
    return _total((1 - level[i]).abs().mean() for level in planes for i in TIME_PLANES)


def hexplane_regularizer(
    planes: Sequence[Sequence[Tensor]],
    plane_weight: float,
    time_weight: float,
    l1_weight: float,
) -> Tensor:
    """Weighted total of the three terms; a term of weight zero is not computed.

    Args:
        planes: 6 planes [1, C, H, W] per level.
        plane_weight: Weight of `plane_smoothness`.
        time_weight: Weight of `time_smoothness`.
        l1_weight: Weight of `time_l1`.

    Returns:
        A scalar.

    Source:
        4D-GS (Wu et al., CVPR 2024), section 4.3.
    """
    total = planes[0][0].new_zeros(())
    if plane_weight:
        total = total + plane_weight * plane_smoothness(planes)
    if time_weight:
        total = total + time_weight * time_smoothness(planes)
    if l1_weight:
        total = total + l1_weight * time_l1(planes)
    return total


def _total(values: Any) -> Tensor:
    return torch.stack(list(values)).sum()
