"""Axes of files: a turn by 180° about one axis, in which every number keeps or changes its sign."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..scene import Gaussians, harmonics

X, Y, Z = 0, 1, 2


def half_turned(g: Gaussians, axis: int) -> Gaussians:
    """Gaussians turned by 180° about the axis X, Y or Z; twice is the identity, bit for bit.

    About X, OpenCV's axes become OpenGL's (right, up, back); about Z, they become glTF's (left, up, front).
    """
    # a Gaussian is the same when its own axes change their signs, so that the parts of its rotation do no more
    quats = torch.cat([torch.ones(1), _signs(axis)]).to(g.quats)
    return g.with_(
        means=g.means * _signs(axis).to(g.means),
        quats=g.quats * quats,
        sh=g.sh * _harmonic_signs(g.sh.shape[1], axis).to(g.sh)[:, None],
    )


def _signs(axis: int) -> Tensor:
    """±1 [3]."""
    signs = -torch.ones(3)
    signs[axis] = 1
    return signs


@lru_cache(maxsize=12)
def _harmonic_signs(bases: int, axis: int) -> Tensor:
    """±1 [K]: factors of the first K harmonics."""
    direction = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, 0.81], dtype=torch.float64), dim=0)
    degree = harmonics.degree_of(bases)
    turned = harmonics.basis(direction * _signs(axis).double(), degree)
    return (turned / harmonics.basis(direction, degree)).round()
