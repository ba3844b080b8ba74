"""Does a calibration agree with the images, and by how much does it have to move so that it does?

Triangulation is the direct linear transform (Hartley & Zisserman 2004, section 12.2); the adjustment is a small bundle
adjustment of the poses with a prior that keeps each camera near where its calibration put it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..scene.cameras import Cameras

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sighting:
    """One world point as two cameras or more see it: view index → ideal (undistorted) pixel (u, v)."""

    name: str
    pixels: dict[int, tuple[float, float]]
    accuracy: float = 1.0  # pixels (one sigma): a sharp mark about 0.5, the middle of a moving thing 4


def triangulate(cameras: Cameras, sighting: Sighting) -> Array:
    """The world point [3] algebraically nearest to a sighting's rays. InputError with fewer than two views."""
    if len(sighting.pixels) < 2:
        raise InputError(
            "CAP-072",
            f"Point '{sighting.name}' is marked in {len(sighting.pixels)} view(s). Mark it in two or more.",
        )
    rows: list[Array] = []
    for view, (u, v) in sighting.pixels.items():
        P = (cameras.K[view] @ cameras.world_to_camera[view, :3]).double().numpy()
        rows += [u * P[2] - P[0], v * P[2] - P[1]]
    A = np.stack([row / np.linalg.norm(row) for row in rows])
    solution = np.linalg.svd(A)[2][-1]
    return solution[:3] / solution[3]


def reprojection_errors(cameras: Cameras, sightings: list[Sighting]) -> list[dict[int, float]]:
    """Pixels between each sighting and its triangulated point's projection: one {view: error} per sighting."""
    result: list[dict[int, float]] = []
    for sighting in sightings:
        point = torch.from_numpy(triangulate(cameras, sighting))[None]
        result.append(
            {
                view: float(np.linalg.norm(cameras.project(point, view)[0][0].numpy() - np.array(pixel)))
                for view, pixel in sighting.pixels.items()
            }
        )
    return result


def rms(errors: list[dict[int, float]]) -> float:
    """Root mean square of all errors, 0 for none."""
    values = [e for group in errors for e in group.values()]
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0


def adjust_poses(
    cameras: Cameras,
    sightings: list[Sighting],
    degrees: float = 1.0,  # how far a camera may plausibly have turned (one sigma)
    meters: float = 0.03,  # and moved
) -> Cameras:
    """The same cameras with poses turned and moved so that all sightings agree; K stays as it was.

    The priors fix the world's frame: no camera is held, none leaves where it was calibrated without reason. Errors
    beyond three times a sighting's accuracy count less and less.
    InputError where a sighting has fewer than two views.
    """
    views = len(cameras)
    start = cameras.world_to_camera.double().numpy()
    K = cameras.K.double().numpy()
    points = np.stack([triangulate(cameras, s) for s in sightings])
    seen = [(i, view, uv) for i, s in enumerate(sightings) for view, uv in s.pixels.items()]
    point_of = np.array([i for i, _, _ in seen])
    view_of = np.array([view for _, view, _ in seen])
    target = np.array([uv for _, _, uv in seen])
    sigma = np.array([sightings[i].accuracy for i, _, _ in seen])[:, None]

    def poses(x: Array) -> Array:
        moved = start.copy()
        turn = scipy.spatial.transform.Rotation.from_rotvec(x[: 3 * views].reshape(views, 3)).as_matrix()
        centers = -np.einsum("vji,vj->vi", start[:, :3, :3], start[:, :3, 3]) + x[
            3 * views : 6 * views
        ].reshape(views, 3)
        moved[:, :3, :3] = turn @ start[:, :3, :3]
        moved[:, :3, 3] = -np.einsum("vij,vj->vi", moved[:, :3, :3], centers)
        return moved

    def residuals(x: Array) -> Array:
        pose, world = poses(x)[view_of], x[6 * views :].reshape(-1, 3)[point_of]
        in_camera = np.einsum("nij,nj->ni", pose[:, :3, :3], world) + pose[:, :3, 3]
        projected = np.einsum("nij,nj->ni", K[view_of], in_camera)
        error = (projected[:, :2] / projected[:, 2:] - target) / sigma
        size = np.sqrt(1e-12 + np.square(error).sum(axis=1, keepdims=True))
        # soft L1 from 3 sigma on
        soft = error * np.sqrt(2 * (np.sqrt(1 + np.square(size) / 9) - 1) * 9) / size
        turned = x[: 3 * views] / np.radians(degrees)
        return np.concatenate([soft.ravel(), turned, x[3 * views : 6 * views] / meters])

    solution = scipy.optimize.least_squares(
        residuals, np.concatenate([np.zeros(6 * views), points.ravel()]), x_scale="jac", max_nfev=200
    )
    return replace(cameras, world_to_camera=torch.from_numpy(poses(solution.x)))
