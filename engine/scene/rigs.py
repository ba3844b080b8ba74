"""Rigs for scenes that do not have one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .cameras import Cameras, look_at

UPS = {"y up": (0.0, 1.0, 0.0), "y down": (0.0, -1.0, 0.0), "z up": (0.0, 0.0, 1.0)}
CAMERAS = 8
PIXELS = 512
# degrees
FIELD_OF_VIEW = 40.0
# of TRELLIS' and GVFDiffusion's renders of canonical Gaussians: world units, degrees
ORBIT_RADIUS, ORBIT_FIELD_OF_VIEW = 2.0, 49.1


def rig_up(rig: Cameras) -> Tensor:
    """The rig's upward direction [3] (float64): the mean of the cameras' own up axes."""
    up = -rig.world_to_camera[:, 1, :3].double().mean(0)
    return (
        torch.nn.functional.normalize(up, dim=0) if up.norm() > 1e-6 else torch.tensor([0.0, 0, 1]).double()
    )


def ring_of_cameras(bounds: Tensor, up: Tensor) -> Cameras:
    """Eight cameras in a circle around `bounds` [2, 3], slightly above its middle, that see all of it."""
    middle, radius = bounds.mean(0), float((bounds[1] - bounds[0]).norm()) / 2
    distance = 1.1 * radius / math.sin(math.radians(FIELD_OF_VIEW) / 2)
    side = torch.linalg.cross(up, up.roll(1))
    side = side / side.norm()
    front = torch.linalg.cross(side, up)
    poses: list[Tensor] = []
    for i in range(CAMERAS):
        angle = 2 * math.pi * i / CAMERAS
        flat = math.cos(angle) * front + math.sin(angle) * side
        position = middle + distance * (math.cos(0.2) * flat + math.sin(0.2) * up)
        poses.append(look_at(position, middle, up))
    focal = PIXELS / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    K = torch.tensor([[focal, 0, PIXELS / 2], [0, focal, PIXELS / 2], [0, 0, 1]], dtype=torch.float64)
    names = tuple(f"ring{i}" for i in range(CAMERAS))
    return Cameras(torch.stack(poses), K.repeat(CAMERAS, 1, 1), ((PIXELS, PIXELS),) * CAMERAS, names)


def orbit_pose(azimuth: float, elevation: float, radius: float = ORBIT_RADIUS) -> Tensor:
    """world_to_camera [4, 4] (float64) of a camera that looks at the origin of a z-up world.

    Args:
        azimuth: Degrees counterclockwise from above; at 0 the camera is in front, at negative y.
        elevation: Degrees above the horizon.
        radius: Distance in world units.
    """
    a, e = math.radians(azimuth), math.radians(elevation)
    place = torch.tensor(
        [math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)], dtype=torch.float64
    )
    return look_at(radius * place, torch.zeros(3), torch.tensor([0.0, 0, 1]))


def orbit_cameras(
    azimuths: Sequence[float], elevation: float, pixels: int, names: Sequence[str] = ()
) -> Cameras:
    """Cameras around canonical Gaussians, as TRELLIS and GVFDiffusion render them; see `orbit_pose`."""
    focal = pixels / 2 / math.tan(math.radians(ORBIT_FIELD_OF_VIEW) / 2)
    K = torch.tensor([[focal, 0, pixels / 2], [0, focal, pixels / 2], [0, 0, 1]], dtype=torch.float64)
    poses = torch.stack([orbit_pose(azimuth, elevation) for azimuth in azimuths])
    labels = tuple(names) or tuple(f"orbit{azimuth:g}" for azimuth in azimuths)
    return Cameras(poses, K.repeat(len(poses), 1, 1), ((pixels, pixels),) * len(poses), labels)
