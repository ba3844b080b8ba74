"""Regularizers of HexPlane grids.

Source: 4D-GS (Wu et al., CVPR 2024), section 4.3; definitions as in its published code.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import backends
from ..deform.hexplane_layout import GridLayout

# indices into (xy, xz, xt, yz, yt, zt)
SPACE_PLANES, TIME_PLANES = (0, 1, 3), (2, 4, 5)


class _SecondDifference(torch.autograd.Function):
    """Mean square of the second difference along the height, with an explicit gradient."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor) -> Tensor:
        difference = _curvature(plane)
        ctx.save_for_backward(difference)
        return difference.square().mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
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


class _Grouped(torch.autograd.Function):
    """Value and gradient of the weighted terms at once, for all planes of one shape together.

    Same as the terms above one by one, in a fifth of the operators, since on a GPU each one costs more than its work.
    """

    @staticmethod
    def forward(ctx: Any, weights: Sequence[tuple[float, float]], *planes: Tensor) -> Tensor:
        """`weights` [P] are those of each plane's smoothness and of its distance from one."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, plane in enumerate(planes):
            groups.setdefault((plane.shape, *weights[i]), []).append(i)
        total = planes[0].new_zeros(())
        ctx.groups, gradients = list(groups.values()), []
        for (shape, smoothness, l1), members in groups.items():
            x = torch.cat([planes[i] for i in members])
            gradient = None
            if smoothness and shape[-2] >= 3:
                difference = _curvature(x)
                scale = smoothness * len(members) / difference.numel()
                total.add_(difference.square().sum(), alpha=scale)
                # the operator's adjoint: itself, with zeros beyond the border
                gradient = _curvature(F.pad(difference, (0, 0, 2, 2))).mul_(2 * scale)
            if l1:
                above = x - 1
                scale = l1 * len(members) / x.numel()
                total.add_(above.abs().sum(), alpha=scale)
                sign = above.sign_()
                gradient = sign.mul_(scale) if gradient is None else gradient.add_(sign, alpha=scale)
            gradients.append(gradient)
        ctx.gradients = gradients
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        result: dict[int, Tensor] = {}
        for members, gradient in zip(ctx.groups, ctx.gradients, strict=True):
            if gradient is not None:
                result.update(zip(members, (gradient * grads[0]).split(1), strict=True))
        return None, *(result.get(i) for i in range(sum(map(len, ctx.groups))))


class _Fused(torch.autograd.Function):
    """As `_Grouped`, by the kernel, of flat planes."""

    @staticmethod
    def forward(
        ctx: Any, grids: Tensor, layout: GridLayout, weights: tuple[tuple[float, float], ...]
    ) -> Tensor:
        from ..kernels.build import launch
        from ..kernels.plane_terms import plane_terms

        places, per_number = _per_plane(layout, weights)
        grids = grids.detach()
        gradient = torch.empty_like(grids)
        sums = np.zeros(len(places))
        launch(plane_terms, len(places), 1, grids.numpy(), places, per_number, gradient.numpy(), sums)
        ctx.save_for_backward(gradient)
        return torch.tensor(sums.sum(), dtype=grids.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None


@functools.lru_cache(maxsize=8)
def _per_plane(
    layout: GridLayout, weights: tuple[tuple[float, float], ...]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where planes start, their heights and the numbers of a row [P, 3], and the weights per number [P, 2]."""
    places: list[tuple[int, int, int]] = []
    per_number: list[tuple[float, float]] = []
    shapes = zip(layout.starts, layout.flat_shapes, weights, strict=False)
    for start, (_, channels, height, width), (smoothness, l1) in shapes:
        row = width * channels
        differences = max(height - 2, 0) * row
        places.append((start, height, row))
        per_number.append((smoothness / differences if differences else 0.0, l1 / (height * row)))
    return np.array(places), np.array(per_number)


def _curvature(plane: Tensor) -> Tensor:
    """Second difference [..., H - 2, W] along the height."""
    difference = torch.sub(plane[..., 2:, :], plane[..., 1:-1, :], alpha=2)
    return difference.add_(plane[..., :-2, :])


def hexplane_regularizer(
    grids: Tensor,
    layout: GridLayout,
    plane_weight: float,
    time_weight: float,
    l1_weight: float,
) -> Tensor:
    """Weighted total of the three terms; a term of weight zero is not computed.

    On the CPU, a kernel computes value and gradient in one pass (benchmarks/kernels.py).

    Args:
        grids: All planes, flat.
        layout: Where they lie.
        plane_weight: Weight of `plane_smoothness`.
        time_weight: Weight of `time_smoothness`.
        l1_weight: Weight of `time_l1`.

    Returns:
        A scalar.

    Source:
        4D-GS (Wu et al., CVPR 2024), section 4.3.
    """
    if grids.device.type == "cpu" and backends.installed("numba"):
        weights = _weights(len(layout.shapes), plane_weight, time_weight, l1_weight)
        return _Fused.apply(grids, layout, weights)  # pyright: ignore[reportReturnType]
    return hexplane_regularizer_reference(layout.planes(grids), plane_weight, time_weight, l1_weight)


def hexplane_regularizer_reference(
    planes: Sequence[Sequence[Tensor]], plane_weight: float, time_weight: float, l1_weight: float
) -> Tensor:
    """`hexplane_regularizer` of PyTorch's own operators, on any device; `planes` are 6 of [1, C, H, W] per level."""
    weights = _weights(len(planes), plane_weight, time_weight, l1_weight)
    return _Grouped.apply(weights, *(plane for level in planes for plane in level))  # pyright: ignore[reportReturnType]


def _weights(
    levels: int, plane_weight: float, time_weight: float, l1_weight: float
) -> tuple[tuple[float, float], ...]:
    """Of each plane's smoothness and of its distance from one."""
    return (
        tuple((time_weight, l1_weight) if i in TIME_PLANES else (plane_weight, 0.0) for i in range(6))
        * levels
    )


def _total(values: Any) -> Tensor:
    return torch.stack(list(values)).sum()
