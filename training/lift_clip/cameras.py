"""The camera of the clip, and cameras beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.scene import Cameras
from engine.scene.cameras import look_at

FOV_DEGREES = 58.0
# what the cameras look at
TARGET = torch.tensor([0.0, 0.45, 0.78])
UP = torch.tensor([0.0, 0, 1])


def handheld(frames: int, size: tuple[int, int]) -> Cameras:
    """A hand-held arc of 22 degrees about the figure that comes a little nearer."""
    t = torch.linspace(-0.5, 0.5, frames)
    angle = torch.deg2rad(22 * t)
    radius = 3.35 - 0.35 * (t + 0.5)
    height = 1.25 + 0.06 * (5 * t).sin() + 0.02 * (17 * t).sin()
    sway = torch.stack([0.03 * (9 * t).sin(), 0 * t, 0.025 * (7 * t).cos()], 1)
    return _around(angle, radius, height, TARGET + sway, size)


def beside(frames: int, size: tuple[int, int], degrees: float) -> Cameras:
    """The same path, turned by an angle about a vertical axis through the figure."""
    path = handheld(frames, size)
    a = math.radians(degrees)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    there = torch.eye(4, dtype=torch.float64)
    there[:2, 3] = TARGET[:2].double()
    moved = there @ turn @ torch.linalg.inv(there)
    return Cameras(path.world_to_camera.double() @ torch.linalg.inv(moved), path.K, path.sizes, path.names)


def _around(angle: Tensor, radius: Tensor, height: Tensor, target: Tensor, size: tuple[int, int]) -> Cameras:
    frames, (width, tall) = len(angle), size
    x, y = radius * angle.sin(), TARGET[1] - radius * angle.cos()
    places = torch.stack([x, y, height], 1)
    poses = torch.stack([look_at(p, at, UP) for p, at in zip(places, target, strict=True)])
    focal = width / 2 / math.tan(math.radians(FOV_DEGREES) / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, tall / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(
        poses, K.expand(frames, 3, 3), (size,) * frames, tuple(f"frame{i:02}" for i in range(frames))
    )
