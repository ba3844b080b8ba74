"""Smoothness of HexPlane fields (Wu et al., CVPR 2024, equation 7, as its reference code computes it).

`planes` is levels × 6 tensors [1, C, res_b, res_a] in the order (xy, xz, xt, yz, yt, zt).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SPACE, TIME = (0, 1, 3), (2, 4, 5)


def second_difference(plane: Tensor) -> Tensor:
    """Mean square of the second difference along the height axis; 0 for a plane of fewer than three rows."""
    if plane.shape[-2] < 3:
        return plane.sum() * 0
    step = plane[..., 1:, :] - plane[..., :-1, :]
    return (step[..., 1:, :] - step[..., :-1, :]).square().mean()


def _sum(planes: Sequence[Sequence[Tensor]], chosen: tuple[int, ...]) -> Tensor:
    return torch.stack([second_difference(level[i]) for level in planes for i in chosen]).sum()


def plane_smoothness(planes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Over the spatial planes. Called "plane TV" in the paper; the reference takes second differences along one axis."""
    return _sum(planes, SPACE)


def time_smoothness(planes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Over the time planes, whose height is time: zero for motion of constant speed."""
    return _sum(planes, TIME)


def time_l1(planes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum of mean |1 − plane| over the time planes: pulls what need not move to stand still."""
    return torch.stack([(1 - level[i]).abs().mean() for level in planes for i in TIME]).sum()
