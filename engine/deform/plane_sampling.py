"""Samples of feature planes, written for two CPU cores: at one time a time plane is a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import backends
from .hexplane_config import SPACE_PLANES, TIME_PLANES
from .hexplane_layout import GridLayout

# channels of one vector of the kernel
CHANNELS = 16
# Gaussians that one thread samples at least
SOME_GAUSSIANS = 512


class _RowBlend(torch.autograd.Function):
    """(1 − w)·plane[:, :, i] + w·plane[:, :, i + 1] of planes of one shape, [P, C, 1, res_a].

    Its gradient is written once, instead of one plane for each row.
    """

    @staticmethod
    def forward(ctx: Any, row: int, weight: float, *planes: Tensor) -> Tensor:
        ctx.shape, ctx.row, ctx.weight = (len(planes), *planes[0].shape[1:]), row, weight
        here = torch.cat([plane[:, :, row : row + 1] for plane in planes])
        if weight == 0.0:
            return here
        return here.lerp_(torch.cat([plane[:, :, row + 1 : row + 2] for plane in planes]), weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        result = grads[0].new_zeros(ctx.shape)
        torch.mul(grads[0], 1 - ctx.weight, out=result[:, :, ctx.row : ctx.row + 1])
        if ctx.weight != 0.0:
            torch.mul(grads[0], ctx.weight, out=result[:, :, ctx.row + 1 : ctx.row + 2])
        return None, None, *result.split(1)


def rows_of(planes: Sequence[Tensor], t: float) -> list[Tensor]:
    """The lines [1, C, 1, res_a] of time planes at grid coordinate `t`, clamped to the border.

    Planes of one shape give one tensor [P, C, 1, res_a].
    """
    if len({plane.shape for plane in planes}) > 1:
        return [row for plane in planes for row in rows_of([plane], t)]
    return [_RowBlend.apply(*_row(planes[0].shape[2], t), *planes)]  # pyright: ignore[reportReturnType]


def _row(count: int, t: float) -> tuple[int, float]:
    """Of `count` rows from -1 to 1: the last one at or before `t`, and the weight of the next one."""
    position = (min(max(t, -1.0), 1.0) + 1) / 2 * (count - 1)
    row = min(int(position), max(count - 2, 0))
    return row, position - row


def sample_product(planes: Sequence[Tensor], grid: Tensor) -> Tensor:
    """Product [C, N] of the bilinear samples of three planes at `grid` [3, 1, N, 2], clamped to the border.

    Args:
        planes: One tensor [3, C, H, W], or three of [1, C, H, W].
        grid: Coordinates in [-1, 1].
    """
    # planes of one shape need a single call, which runs on several threads
    if len({plane.shape for plane in planes}) == 1:
        together = planes[0] if len(planes) == 1 else torch.cat(list(planes))
        a, b, c = F.grid_sample(together, grid, padding_mode="border", align_corners=True)[:, :, 0]
    else:
        a, b, c = (
            F.grid_sample(plane, grid[i : i + 1], padding_mode="border", align_corners=True)[0, :, 0]
            for i, plane in enumerate(planes)
        )
    return a * b * c


def field_features(grids: Tensor, layout: GridLayout, points: Tensor, times: Sequence[float]) -> Tensor:
    """Products of the samples of six planes, level by level.

    On the CPU, a kernel computes them for one time, in less than a quarter of the operators' time (benchmarks/kernels.py).

    Args:
        grids: All planes, flat.
        layout: Where they lie.
        points: [N, 3] grid coordinates in [-1, 1]; others get the border's values.
        times: B grid coordinates along time.

    Returns:
        [C·levels, B·N]; N runs fastest.

    Source:
        4D-GS (Wu et al., CVPR 2024), equation 5.
    """
    is_simple = len(times) == 1 and len(points) > 0 and layout.flat_shapes[0][1] % CHANNELS == 0
    if is_simple and points.device.type == "cpu" and backends.installed("numba"):
        return _Fused.apply(points, grids, layout, times[0]).t()  # pyright: ignore[reportAttributeAccessIssue]
    return field_features_reference(layout.planes(grids), points, times)


def field_features_reference(
    levels: Sequence[Sequence[Tensor]], points: Tensor, times: Sequence[float]
) -> Tensor:
    """`field_features` of PyTorch's own operators, on any device.

    `levels` are six planes [1, C, res_b, res_a] each, in the order of `PAIRS`.
    """
    # both [3, 1, N, 2]; a line is one row high
    x, y, z = points.unbind(1)
    nothing = torch.zeros_like(x)
    grid = torch.stack([x, y, x, z, y, z]).unflatten(0, (3, 1, 2)).transpose(-1, -2)
    line = torch.stack([x, nothing, y, nothing, z, nothing]).unflatten(0, (3, 1, 2)).transpose(-1, -2)
    found: list[Tensor] = []
    for planes in levels:
        still = sample_product([planes[i] for i in SPACE_PLANES], grid)
        moving = [sample_product(rows_of([planes[i] for i in TIME_PLANES], t), line) for t in times]
        found.append(torch.cat([still * m for m in moving], dim=1) if len(moving) > 1 else still * moving[0])
    return torch.cat(found) if len(found) > 1 else found[0]


class _Fused(torch.autograd.Function):
    """`field_features` [N, C·levels] at one time, by the kernel. Views are NumPy's: torch's cost a tenth of a millisecond."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, grids: Tensor, layout: GridLayout, time: float) -> Tensor:
        from ..kernels.build import launch
        from ..kernels.planes import sample

        points, grids = points.detach().contiguous(), grids.detach()
        numbers = grids.numpy()
        levels = _levels(numbers, layout, _lines(numbers, layout, time))
        features = points.new_empty(len(points), len(levels) * layout.flat_shapes[0][1])
        launch(sample, len(points), SOME_GAUSSIANS, points.numpy(), levels, features.numpy())
        ctx.layout, ctx.time, ctx.levels = layout, time, levels
        # saved so that autograd notices when they are changed in place: the levels share their memory
        ctx.save_for_backward(points, grids)
        return features

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from ..kernels.build import launch
        from ..kernels.planes import sample_backward

        points, grids = ctx.saved_tensors
        layout: GridLayout = ctx.layout
        # a frozen field only passes gradients on
        learns = ctx.needs_input_grad[1]
        slopes, to_grids, lines = ctx.levels, None, []
        if learns:
            to_grids = torch.zeros_like(grids)
            numbers = to_grids.numpy()
            lines = [np.zeros(layout.flat_shapes[i][3::-2], numbers.dtype) for i in _time_planes(layout)]
            slopes = _levels(numbers, layout, lines)
        to_points = points.new_empty(len(layout.shapes), len(points), 3)
        launch(
            sample_backward,
            len(layout.shapes),
            1,
            points.numpy(),
            ctx.levels,
            grads[0].contiguous().numpy(),
            learns,
            slopes,
            to_points.numpy(),
        )
        if to_grids is not None:
            for i, line in zip(_time_planes(layout), lines, strict=True):
                row, weight = _row(layout.flat_shapes[i][2], ctx.time)
                rows = _plane(to_grids.numpy(), layout, i)
                np.multiply(line, 1 - weight, out=rows[row])
                if weight:
                    np.multiply(line, weight, out=rows[row + 1])
        return to_points.sum(dim=0), to_grids, None, None


def _plane(grids: np.ndarray, layout: GridLayout, plane: int) -> np.ndarray:
    """A plane [res_b, res_a, C], a view."""
    _, channels, height, width = layout.flat_shapes[plane]
    return grids[layout.starts[plane] : layout.starts[plane + 1]].reshape(height, width, channels)


def _time_planes(layout: GridLayout) -> list[int]:
    """Of all levels."""
    return [6 * level + i for level in range(len(layout.shapes)) for i in TIME_PLANES]


def _lines(grids: np.ndarray, layout: GridLayout, time: float) -> list[np.ndarray]:
    """The time planes of all levels at a time, [res_a, C] each."""
    lines: list[np.ndarray] = []
    for i in _time_planes(layout):
        row, weight = _row(layout.flat_shapes[i][2], time)
        rows = _plane(grids, layout, i)
        lines.append(rows[row] + (rows[row + 1] - rows[row]) * weight if weight else rows[row])
    return lines


def _levels(grids: np.ndarray, layout: GridLayout, lines: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """Space planes and time planes' lines of each level, as the kernel takes them; they share memory with `grids`."""
    each = iter(lines)
    return tuple(
        (
            tuple(_plane(grids, layout, 6 * level + i) for i in SPACE_PLANES),
            tuple(next(each) for _ in TIME_PLANES),
        )
        for level in range(len(layout.shapes))
    )
