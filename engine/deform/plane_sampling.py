"""Samples of feature planes, written for two CPU cores: at one time a time plane is a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import backends
from .hexplane_config import SPACE_PLANES, TIME_PLANES

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


def field_features(levels: Sequence[Sequence[Tensor]], points: Tensor, times: Sequence[float]) -> Tensor:
    """Products of the samples of six planes, level by level.

    On the CPU, a kernel computes them for one time, in less than a quarter of the operators' time (benchmarks/kernels.py).

    Args:
        levels: Six planes [1, C, res_b, res_a] per level, in the order of `PAIRS`.
        points: [N, 3] grid coordinates in [-1, 1]; others get the border's values.
        times: B grid coordinates along time.

    Returns:
        [C·levels, B·N]; N runs fastest.

    Source:
        4D-GS (Wu et al., CVPR 2024), equation 5.
    """
    is_simple = len(times) == 1 and len(points) > 0 and levels[0][0].shape[1] % CHANNELS == 0
    if is_simple and points.device.type == "cpu" and backends.installed("numba"):
        flat = [plane for level in levels for plane in level]
        return _Fused.apply(points, times[0], *flat).t()  # pyright: ignore[reportAttributeAccessIssue]
    return field_features_reference(levels, points, times)


def field_features_reference(
    levels: Sequence[Sequence[Tensor]], points: Tensor, times: Sequence[float]
) -> Tensor:
    """`field_features` of PyTorch's own operators, on any device."""
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
    """`field_features` [N, C·levels] at one time, by the kernel."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, time: float, *planes: Tensor) -> Tensor:
        from ..kernels.build import launch
        from ..kernels.planes import sample

        points = points.detach().contiguous()
        levels = [_channels_last(planes[i : i + 6], time) for i in range(0, len(planes), 6)]
        features = points.new_empty(len(points), len(levels) * planes[0].shape[1])
        launch(sample, len(points), SOME_GAUSSIANS, points.numpy(), _arrays(levels), features.numpy())
        ctx.time, ctx.shapes = time, [plane.shape for plane in planes]
        ctx.save_for_backward(points, *(values for level in levels for values in level))
        return features

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from ..kernels.build import launch
        from ..kernels.planes import sample_backward

        points, *flat = ctx.saved_tensors
        levels = [flat[i : i + 6] for i in range(0, len(flat), 6)]
        # a frozen field only passes gradients on
        learns = any(ctx.needs_input_grad[2:])
        slopes = [[torch.zeros_like(values) for values in level] for level in levels] if learns else levels
        to_points = points.new_empty(len(levels), len(points), 3)
        launch(
            sample_backward,
            len(levels),
            1,
            points.numpy(),
            _arrays(levels),
            grads[0].contiguous().numpy(),
            learns,
            _arrays(slopes),
            to_points.numpy(),
        )
        if not learns:
            return to_points.sum(dim=0), *(None for _ in ctx.needs_input_grad[1:])
        planes: list[Tensor] = []
        for i, level in enumerate(slopes):
            shapes = ctx.shapes[6 * i : 6 * i + 6]
            own: dict[int, Tensor] = {}
            for k, values in zip(SPACE_PLANES, level[:3], strict=True):
                own[k] = values.permute(2, 0, 1)[None]
            for k, values in zip(TIME_PLANES, level[3:], strict=True):
                own[k] = values.new_zeros(shapes[k])
                row, weight = _row(shapes[k][2], ctx.time)
                torch.mul(values.t(), 1 - weight, out=own[k][0, :, row])
                if weight:
                    torch.mul(values.t(), weight, out=own[k][0, :, row + 1])
            planes += [own[k] for k in range(6)]
        return to_points.sum(dim=0), None, *planes


def _channels_last(planes: Sequence[Tensor], time: float) -> list[Tensor]:
    """Space planes [res_b, res_a, C] of a level, then the time planes' lines [res_a, C] at a time."""
    still = [planes[i].detach()[0].permute(1, 2, 0).contiguous() for i in SPACE_PLANES]
    lines: list[Tensor] = []
    for i in TIME_PLANES:
        plane = planes[i].detach()[0]
        row, weight = _row(plane.shape[1], time)
        line = torch.lerp(plane[:, row], plane[:, row + 1], weight) if weight else plane[:, row]
        lines.append(line.t().contiguous())
    return still + lines


def _arrays(levels: Sequence[Sequence[Tensor]]) -> tuple[Any, ...]:
    """As the kernel takes them."""
    return tuple(
        (tuple(t.numpy() for t in level[:3]), tuple(t.numpy() for t in level[3:])) for level in levels
    )
