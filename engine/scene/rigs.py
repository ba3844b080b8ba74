"""Rigs for scenes that do not have one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .cameras import Cameras, look_at

UPS = {"y up": (0.0, 1.0, 0.0), "y down": (0.0, -1.0, 0.0), "z up": (0.0, 0.0, 1.0)}
CAMERAS = 8
PIXELS = 512
# degrees
FIELD_OF_VIEW = 40.0


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
