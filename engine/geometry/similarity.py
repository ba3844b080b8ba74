"""The similarity transform between two sets of points in correspondence."""

from __future__ import annotations

import torch
from torch import Tensor


def similarity_between(own: Tensor, goal: Tensor) -> Tensor:
    """The turn, scale and shift [3, 4] that bring points `own` nearest to `goal` [P, 3], float64.

    Source:
        Umeyama, IEEE TPAMI 1991.
    """
    a, b = own - own.mean(0), goal - goal.mean(0)
    u, s, vt = torch.linalg.svd(b.T @ a)
    signs = torch.ones(3, dtype=torch.float64)
    signs[2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = (u * signs) @ vt
    scale = (s * signs).sum() / a.square().sum().clamp(min=1e-24)
    return torch.cat([scale * rotation, (goal.mean(0) - scale * rotation @ own.mean(0))[:, None]], dim=1)
