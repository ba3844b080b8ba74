"""Cameras and points of a capture around a local origin, where float32 could not resolve them (UTM, ECEF)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..scene.cameras import AT_ZERO, Origin, in_words
from ..scene.origins import FAR, is_near, middle_and_width, origin_for
from .camera_checks import orthonormal
from .description import Array

# of the rig's width: points that their file resolves no finer are of no use
COARSE = 0.005


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


def placed(
    poses: Array, near: float | None, points: Array | None, warnings: list[str], notes: list[str]
) -> Placed:
    """Checked poses [V, 4, 4] and points [P, 3] of a file's coordinates, where necessary around a local origin.

    Points that cannot belong to the cameras are left out with a warning.
    """
    centers = torch.from_numpy(exact_centers(poses))
    origin = origin_for(centers, near or 0.0)
    rig = np.stack([orthonormal(pose) for pose in moved(poses, origin)])
    if origin != AT_ZERO:
        notes.append(
            f"Coordinates: positions are stored relative to {in_words(origin)}, because float32 cannot resolve them that far "
            "from zero."
        )
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
    if origin == AT_ZERO:
        return ""
    # the step of float32 there
    step = float(np.spacing(np.float32(finite.abs().amax())))
    if step > COARSE * width and bool((finite == finite.float()).all()):
        return (
            f"The initial points are stored as float32, which resolves steps of {step:.2g} units that far from zero. They are "
            "not used; export them as double, or relative to a local origin together with the cameras."
        )
    return ""


def _rounded(place: torch.Tensor) -> str:
    return f"({', '.join(f'{c:.6g}' for c in place.tolist())})"
