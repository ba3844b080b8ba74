"""Camera paths: where a picture is taken from and at which time, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.axes import axes_converge, nearest_to_axes
from ..scene import Cameras, Scene4D, rotations
from ..scene.cameras import look_at
from ..scene.rigs import rig_up


@dataclass(frozen=True, eq=False)
class CameraPath:
    """F frames: one camera and one time each, all of one size."""

    cameras: Cameras  # [F]
    seconds: Tensor  # [F] float64
    fps: float

    def __len__(self) -> int:
        return len(self.cameras)


@dataclass(frozen=True, eq=False)
class FramedView:
    """One shot: where the camera stands and how wide it looks, for any image size."""

    world_to_camera: Tensor  # [4, 4] float64
    fov: float  # degrees, vertical
    zoom: float = 1.0  # multiplies the focal length

    def intrinsics(self, width: int, height: int) -> Tensor:
        """K [3, 3] float64 with the principal point in the middle of the image."""
        focal = 0.5 * height / math.tan(math.radians(self.fov) / 2) * self.zoom
        return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)


def rig_focus(rig: Cameras, fallback: Tensor) -> Tensor:
    """The point [3] nearest to all viewing axes (least squares); `fallback` where the axes are parallel."""
    directions = torch.nn.functional.normalize(rig.forward.double(), dim=-1)
    if not axes_converge(directions):
        return fallback.double()
    return nearest_to_axes(rig.centers.double(), directions)


def _basis(up: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to `up`: the first towards `start`, the second a quarter turn on."""
    first = start - up * (start @ up)
    if first.norm() < 1e-6:
        first = torch.linalg.cross(up, up.roll(1))
    first = torch.nn.functional.normalize(first, dim=0)
    return first, torch.linalg.cross(up, first)


def orbit(scene: Scene4D, frames: int, turns: float, elevation: float | None, zoom: float) -> Tensor:
    """world_to_camera [F, 4, 4]: round the subject at the rig's median distance ÷ zoom, starting at view 0's side.

    `elevation` in degrees above the horizon; None keeps the rig's median.
    """
    rig = scene.rig
    up, focus = rig_up(rig), rig_focus(rig, scene.bounds.double().mean(0))
    offsets = rig.centers.double() - focus
    distance = float(offsets.norm(dim=-1).median()) / zoom
    heights = (offsets @ up / offsets.norm(dim=-1).clamp(min=1e-9)).asin()
    angle_up = float(heights.median()) if elevation is None else math.radians(elevation)
    a, b = _basis(up, offsets[0])
    poses: list[Tensor] = []
    for i in range(frames):
        angle = 2 * math.pi * turns * i / max(frames, 1)
        flat = math.cos(angle) * a + math.sin(angle) * b
        position = focus + distance * (math.cos(angle_up) * flat + math.sin(angle_up) * up)
        poses.append(look_at(position, focus, up))
    return torch.stack(poses)


def spiral(scene: Scene4D, frames: int, turns: float, zoom: float, view: int) -> Tensor:
    """world_to_camera [F, 4, 4]: a small circle in front of one captured view, always facing the subject."""
    rig = scene.rig
    up, focus = rig_up(rig), rig_focus(rig, scene.bounds.double().mean(0))
    home = rig.centers.double()[view]
    reach = home - focus
    right = torch.nn.functional.normalize(torch.linalg.cross(up, reach), dim=0)
    radius = 0.15 * float(reach.norm())
    poses: list[Tensor] = []
    for i in range(frames):
        angle = 2 * math.pi * turns * i / max(frames, 1)
        forth = 1 / zoom + 0.08 * math.sin(angle / 2)
        position = (
            focus + reach * forth + radius * (math.sin(angle) * right + 0.5 * (1 - math.cos(angle)) * up)
        )
        poses.append(look_at(position, focus, up))
    return torch.stack(poses)


def through_rig(rig: Cameras, frames: int) -> tuple[Tensor, Tensor]:
    """(world_to_camera [F, 4, 4], index [F] into the ordered rig): through the captured cameras, in order round them.

    Positions are interpolated linearly and rotations along the shortest arc.
    """
    order = _round_the_rig(rig)
    c2w = rig.camera_to_world.double()[order]
    quats = rotations.matrices_to_quats(c2w[:, :3, :3])
    where = torch.linspace(0, len(rig) - 1, frames, dtype=torch.float64)
    first = where.floor().long().clamp(max=max(len(rig) - 2, 0))
    second = (first + 1).clamp(max=len(rig) - 1)
    weight = where - first
    rotation = rotations.quats_to_matrices(rotations.slerp(quats[first], quats[second], weight))
    center = c2w[first, :3, 3] * (1 - weight[:, None]) + c2w[second, :3, 3] * weight[:, None]
    result = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    result[:, :3, :3] = rotation.transpose(1, 2)
    result[:, :3, 3] = -(result[:, :3, :3] @ center[..., None])[..., 0]
    return result, order[where.round().long()]


def _round_the_rig(rig: Cameras) -> Tensor:
    """Indices [V] that walk from camera to nearest camera, starting at view 0."""
    centers = rig.centers.double()
    order, left = [0], set(range(1, len(rig)))
    while left:
        nearest = min(left, key=lambda v: float((centers[v] - centers[order[-1]]).norm()))
        order.append(nearest)
        left.remove(nearest)
    return torch.tensor(order)
