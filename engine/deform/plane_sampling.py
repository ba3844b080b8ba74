"""Samples of feature planes, written for two CPU cores: at one time a time plane is a line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _RowBlend(torch.autograd.Function):
    """(1 − w)·plane[…, i, :] + w·plane[…, i + 1, :], with a gradient written once instead of one plane for each row."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor, row: int, weight: float) -> Tensor:
        ctx.shape, ctx.row, ctx.weight = plane.shape, row, weight
        if weight == 0.0:
            return plane[:, :, row : row + 1].clone()
        return torch.lerp(plane[:, :, row : row + 1], plane[:, :, row + 1 : row + 2], weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        result = grads[0].new_zeros(ctx.shape)
        result[:, :, ctx.row] = grads[0][:, :, 0] * (1 - ctx.weight)
        if ctx.weight != 0.0:
            result[:, :, ctx.row + 1] = grads[0][:, :, 0] * ctx.weight
        return result, None, None


def row_of(plane: Tensor, t: float) -> Tensor:
    """The line [1, C, 1, res_a] of a time plane at grid coordinate `t`, clamped to the border."""
    last = plane.shape[2] - 1
    position = (min(max(t, -1.0), 1.0) + 1) / 2 * last
    row = min(int(position), max(last - 1, 0))
    return _RowBlend.apply(plane, row, position - row)  # pyright: ignore[reportReturnType]


def sample_product(planes: list[Tensor], grid: Tensor) -> Tensor:
    """Product [C, N] of the bilinear samples of three planes at `grid` [3, 1, N, 2], clamped to the border."""
    # planes of one shape need a single call, which runs on several threads
    if planes[0].shape == planes[1].shape == planes[2].shape:
        a, b, c = F.grid_sample(torch.cat(planes), grid, padding_mode="border", align_corners=True)[:, :, 0]
    else:
        a, b, c = (
            F.grid_sample(plane, grid[i : i + 1], padding_mode="border", align_corners=True)[0, :, 0]
            for i, plane in enumerate(planes)
        )
    return a * b * c
