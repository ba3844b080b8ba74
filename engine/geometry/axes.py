"""Where viewing axes meet."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_to_axes(centers: Tensor, directions: Tensor, pull: float = 0.0) -> Tensor:
    """The point nearest to all viewing axes, by least squares.

    Args:
        centers: A point [V, 3] of each axis, float64.
        directions: Unit directions [V, 3], float64.
        pull: Weight of the centers' mean, per axis. Above 0 the point stays finite where axes are parallel; at 0 ask
            `axes_converge` first.

    Returns:
        The point [3], float64.
    """
    identity = torch.eye(3, dtype=torch.float64)
    across = identity - directions[:, :, None] * directions[:, None, :]
    weight = pull * len(centers)
    return torch.linalg.solve(
        across.sum(0) + weight * identity,
        (across @ centers[:, :, None]).sum(0).squeeze(-1) + weight * centers.mean(0),
    )


def axes_converge(directions: Tensor, least: float = 1e-3) -> bool:
    """Whether axes with unit `directions` [V, 3] are far enough from parallel to meet somewhere.

    `least` is about the mean of the squared sine between them and their common direction; 1e-3 is about 2 degrees.
    """
    across = torch.eye(3, dtype=torch.float64) - directions[:, :, None] * directions[:, None, :]
    return (
        len(directions) > 1 and int(torch.linalg.matrix_rank(across.sum(0), tol=least * len(directions))) == 3
    )
