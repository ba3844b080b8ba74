"""Samples of feature planes, written for two CPU cores: at one time a time plane is a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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
    last = planes[0].shape[2] - 1
    position = (min(max(t, -1.0), 1.0) + 1) / 2 * last
    row = min(int(position), max(last - 1, 0))
    return [_RowBlend.apply(row, position - row, *planes)]  # pyright: ignore[reportReturnType]


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
