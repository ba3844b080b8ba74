"""Cameras and points of a capture around a local origin, where float32 could not resolve them (UTM, ECEF)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..scene.cameras import AT_ZERO, Origin, in_words
from ..scene.origins import COARSE, FAR, coarse_step, is_near, middle_and_width, origin_for
from .camera_checks import orthonormal
from .description import Array, Capture


@dataclass(frozen=True, eq=False)
class Placed:
    """Cameras and points relative to `origin`."""

    poses: Array  # [V, 4, 4] world_to_camera, rigid
    points: Array | None  # [P, 3]
    origin: Origin


def exact_centers(poses: Array) -> Array:
    """Camera positions [V, 3] of world_to_camera [V, 4, 4] whose rotations may be rounded.

    Solved instead of transposed: a rotation of six digits would move a camera in ECEF coordinates by meters.
    """
    return -np.linalg.solve(poses[:, :3, :3], poses[:, :3, 3:])[..., 0]


def moved(poses: Array, origin: Origin) -> Array:
    """world_to_camera [V, 4, 4] in coordinates around `origin`; the images stay the same, whatever the rotations are."""
    if origin == AT_ZERO:
        return poses
    result = poses.copy()
    result[:, :3, 3] += poses[:, :3, :3] @ np.array(origin)
    return result


def placed(capture: Capture, poses: Array, warnings: list[str], notes: list[str]) -> Placed:
    """Checked poses [V, 4, 4] and the points of a capture, where necessary around a local origin.

    Points that cannot belong to the cameras are left out with a warning.
    """
    centers = torch.from_numpy(exact_centers(poses))
    points = capture.points
    origin = origin_for(centers, capture.near or 0.0)
    rig = np.stack([orthonormal(pose) for pose in moved(poses, origin)])
    if origin != AT_ZERO:
        notes.append(
            f"Coordinates: positions are stored relative to {in_words(origin)}, because float32 cannot resolve them that far "
            "from zero."
        )
        warnings += _rounding(poses, centers, capture.stores_positions)
    if points is None or not len(points):
        return Placed(rig, points, origin)
    doubt = _doubt(torch.from_numpy(points), centers, origin)
    if doubt:
        warnings.append(doubt)
        return Placed(rig, None, origin)
    return Placed(rig, points if origin == AT_ZERO else points - np.array(origin), origin)


def _doubt(points: torch.Tensor, centers: torch.Tensor, origin: Origin) -> str:
    """Why the points are not used; empty where they are."""
    finite = points[torch.isfinite(points).all(dim=1)]
    if not len(finite):
        return ""
    middle, _ = middle_and_width(finite)
    rig_middle, width = middle_and_width(centers)
    are_elsewhere = not is_near(middle, origin) if origin != AT_ZERO else origin_for(finite) != AT_ZERO
    if are_elsewhere and float((middle - rig_middle).norm()) > FAR * width:
        return (
            f"The initial points lie around {_rounded(middle)}, but the cameras around {_rounded(rig_middle)}: they are in other "
            "coordinates and are not used. Export both in the same coordinates."
        )
    step = 0.0 if origin == AT_ZERO else coarse_step(finite, width)
    if step:
        return (
            f"The initial points are rounded to {step:.2g} units, as float32 is that far from zero. They are not used; export "
            "them as double, or relative to a local origin together with the cameras."
        )
    return ""


def _rounding(poses: Array, centers: torch.Tensor, stores_positions: bool) -> list[str]:
    """A sentence where the digits of a file do not say where the cameras are."""
    _, width = middle_and_width(centers)
    remedy = "Export the cameras with 15 digits, or relative to a local origin."
    step = coarse_step(centers, width)
    if step:
        return [
            f"Camera positions are rounded to {step:.2g} units, as float32 is that far from zero. {remedy}"
        ]
    turns = poses[:, :3, :3]
    errors = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    transposed = -np.einsum("vji,vj->vi", turns, poses[:, :3, 3])
    apart = float((centers - torch.from_numpy(transposed)).norm(dim=1).max())
    if stores_positions or apart <= COARSE * width:
        return []
    return [
        f"Rotations are rounded (error {errors.max():.1g}), which that far from zero may move cameras by {apart:.2g} units. "
        f"{remedy}"
    ]


def _rounded(place: torch.Tensor) -> str:
    return f"({', '.join(f'{c:.6g}' for c in place.tolist())})"
