"""How far a path of cameras is from the path that was asked for."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..scene.cameras import Cameras
from .similarity import similarity_between


class PoseError(NamedTuple):
    """Relative pose error between neighboring frames, as root mean squares."""

    translation: float  # world units of the path that was asked for
    rotation: float  # degrees
    length: float  # of that path, in world units


def path_length(cameras: Cameras) -> float:
    """Length of the path through the camera centers, in world units."""
    return float(cameras.centers.double().diff(dim=0).norm(dim=-1).sum())


def relative_pose_error(found: Cameras, wanted: Cameras) -> PoseError:
    """Compare the movements between neighboring frames of two paths, after a similarity fit of the camera centers.

    Of the fit only the scale matters: a turn or shift of a whole path does not change its movements.

    Args:
        found: A camera for each frame, in any world.
        wanted: As many cameras, not all in one place.

    Source:
        Sturm et al., IROS 2012, equations 1 and 3, with a distance of one frame; the fit after Umeyama 1991.
    """
    own, goal = found.camera_to_world.double().clone(), wanted.camera_to_world.double()
    matrix = similarity_between(own[:, :3, 3], goal[:, :3, 3])
    own[:, :3, 3] *= torch.linalg.det(matrix[:, :3]).abs() ** (1 / 3)
    movements = [torch.linalg.inv(poses[:-1]) @ poses[1:] for poses in (own, goal)]
    error = torch.linalg.inv(movements[1]) @ movements[0]
    apart = error[:, :3, :3] - torch.eye(3, dtype=torch.float64)
    # a rotation by an angle is 2√2 sin(angle / 2) from the identity, which is exact for small angles too
    sines = (apart.flatten(1).norm(dim=1) / (2 * math.sqrt(2))).clamp(max=1)
    angles = torch.rad2deg(2 * sines.asin())
    return PoseError(_rms(error[:, :3, 3].norm(dim=1)), _rms(angles), path_length(wanted))


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
