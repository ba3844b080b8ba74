"""Anchors of a variation field: points spread over the Gaussians, and mesh motion carried over to any point.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.1, "mesh-guided interpolation", and released code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError
from ...geometry.surface_motion import NEIGHBORS, SHARPNESS, motion_weights

# distances that are computed at a time
_ROOM = 1 << 24


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Farthest-point sampling: each chosen point is the one farthest from those before it.

    The first is point 0, so the result depends on the points alone (the reference starts at random); of equally far ones
    the first counts.

    Args:
        points: [N, 3].
        count: Points to choose, 1 to N.

    Returns:
        Indices [count] in the order of the choice.

    Raises:
        InputError: More points than there are.
    """
    if not 1 <= count <= len(points):
        raise InputError(
            "MOD-021",
            f"A variation field needs {count} anchors, but the splat has only {len(points)} Gaussians; use a splat with more.",
        )
    chosen = torch.zeros(count, dtype=torch.long, device=points.device)
    nearest = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for i in range(1, count):
        nearest = torch.minimum(nearest, (points - points[chosen[i - 1]]).square().sum(-1))
        chosen[i] = nearest.argmax()
    return chosen


def nearest_points(at: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest points of each place, by brute force.

    Args:
        at: Places [M, 3].
        points: [N, 3], at least `count` of them.
        count: Points K for each place.

    Returns:
        Indices [M, K], nearest first, and squared distances [M, K].
    """
    rows = max(1, _ROOM // len(points))
    found: list[Tensor] = []
    for some in at.split(rows):
        # differences first: with a matrix product, near points lose all digits
        distances = torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(distances.topk(count, dim=1, largest=False).indices)
    index = torch.cat(found) if found else at.new_zeros(0, count, dtype=torch.long)
    return index, (points[index] - at[:, None]).square().sum(-1)


def interpolate_displacements(
    displacements: Tensor,
    points: Tensor,
    at: Tensor,
    neighbors: int = NEIGHBORS,
    sharpness: float = SHARPNESS,
) -> Tensor:
    """Carry the motion of surface points over to other places.

    A place moves with its K nearest points, weighted as `motion_weights` says, so that a translation of the surface is one
    of every place.

    Args:
        displacements: Of the points against the first frame, [T, N, 3]; other changes of the surface too, [T, N, C].
        points: Surface points [N, 3].
        at: Places [M, 3].
        neighbors: K.
        sharpness: β.

    Returns:
        Displacements [T, M, 3] (or [T, M, C]) of the places.

    Source:
        GVFDiffusion, section 3.1, equation 3.
    """
    index, squared = nearest_points(at, points, neighbors)
    weights = motion_weights(squared, sharpness)
    frames, _, channels = displacements.shape
    result = torch.zeros(frames, len(at), channels, dtype=displacements.dtype, device=displacements.device)
    for k in range(neighbors):
        result += weights[:, k, None] * displacements[:, index[:, k]]
    return result
