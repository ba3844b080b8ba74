"""Camera paths: a camera and a time for each frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..geometry.axes import axes_converge, nearest_to_axes
from ..scene import Cameras, Scene4D, rotations
from ..scene.cameras import look_at
from ..scene.rigs import rig_up


@dataclass(frozen=True, eq=False)
class CameraPath:
    """F frames with one camera and one time each, all of one size.

    Args:
        cameras: F cameras.
        seconds: Times [F], float64.
        fps: Frames per second of the rendered video.
        focus: The subject's position [3] in world units, if it is known.
        turn: Rotation [3, 3] (float64) by which the cameras are turned for programs that take y as down, if they are to be.
        note: What was assumed about views that were framed elsewhere.
    """

    cameras: Cameras
    seconds: Tensor
    fps: float
    focus: Tensor | None = None
    turn: Tensor | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.cameras)


@dataclass(frozen=True, eq=False)
class FramedView:
    """Camera pose and field of view, independent of the image size.

    Args:
        world_to_camera: [4, 4] float64.
        fov: Vertical field of view, in degrees.
        zoom: Multiplies the focal length.
        is_upright: Whether the pose is in coordinates with y down instead of a scene's own; None: unknown.
        turn: Rotation [3, 3] (float64) that took a scene's coordinates to those of the pose, where one did.
    """

    world_to_camera: Tensor
    fov: float
    zoom: float = 1.0
    is_upright: bool | None = False
    turn: Tensor | None = None

    @property
    def center(self) -> Tensor:
        """Camera center [3] (float64)."""
        return -(self.world_to_camera[:3, :3].double().T @ self.world_to_camera[:3, 3].double())

    def turned_back(self, turn: Tensor) -> FramedView:
        """The same view in the scene's coordinates that `turn` [3, 3] took to those of the pose."""
        pose = self.world_to_camera.double().clone()
        pose[:3, :3] = pose[:3, :3] @ turn.to(pose)
        return replace(self, world_to_camera=pose, is_upright=False, turn=None)

    def as_stored(self) -> FramedView:
        """The same view in the coordinates of the scene that it was framed for, as far as that is known."""
        return self if self.turn is None else self.turned_back(self.turn)

    def intrinsics(self, width: int, height: int) -> Tensor:
        """K [3, 3] float64 for an image of width×height pixels, with the principal point at its center."""
        focal = 0.5 * height / math.tan(math.radians(self.fov) / 2) * self.zoom
        return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)


def rig_focus(rig: Cameras, fallback: Tensor) -> Tensor:
    """The point [3] nearest to all viewing axes (least squares); `fallback` if the axes are parallel."""
    directions = torch.nn.functional.normalize(rig.forward.double(), dim=-1)
    if not axes_converge(directions):
        return fallback.double()
    return nearest_to_axes(rig.centers.double(), directions)


def _basis(up: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to `up`: the first toward `start`, the second rotated by 90°."""
    first = start - up * (start @ up)
    if first.norm() < 1e-6:
        first = torch.linalg.cross(up, up.roll(1))
    first = torch.nn.functional.normalize(first, dim=0)
    return first, torch.linalg.cross(up, first)


def scene_focus(scene: Scene4D) -> Tensor:
    """The point [3] that the scene's cameras look at."""
    return rig_focus(scene.rig, scene.bounds.double().mean(0))


def captured_elevation(rig: Cameras, focus: Tensor) -> float:
    """Median elevation of the cameras above the horizon of `focus` [3], in degrees."""
    offsets = rig.centers.double() - focus
    heights = (offsets @ rig_up(rig) / offsets.norm(dim=-1).clamp(min=1e-9)).asin()
    return math.degrees(float(heights.median()))


def orbit(
    rig: Cameras, focus: Tensor, frames: int, turns: float, elevation: float | None, zoom: float
) -> Tensor:
    """Orbit around the subject, starting in the direction of view 0.

    Args:
        rig: The captured cameras; they define the up direction and the distance.
        focus: The subject's position [3].
        frames: F.
        turns: Number of turns.
        elevation: Degrees above the horizon; None: the rig's median.
        zoom: Divides the rig's median distance.

    Returns:
        world_to_camera [F, 4, 4].
    """
    up = rig_up(rig)
    offsets = rig.centers.double() - focus
    distance = float(offsets.norm(dim=-1).median()) / zoom
    angle_up = math.radians(captured_elevation(rig, focus) if elevation is None else elevation)
    a, b = _basis(up, offsets[0])
    poses: list[Tensor] = []
    for i in range(frames):
        angle = 2 * math.pi * turns * i / max(frames, 1)
        flat = math.cos(angle) * a + math.sin(angle) * b
        position = focus + distance * (math.cos(angle_up) * flat + math.sin(angle_up) * up)
        poses.append(look_at(position, focus, up))
    return torch.stack(poses)


def spiral(rig: Cameras, focus: Tensor, frames: int, turns: float, zoom: float, view: int) -> Tensor:
    """A small circle in front of one captured view, always facing the subject.

    Args:
        rig: The captured cameras; they define the up direction.
        focus: The subject's position [3].
        frames: F.
        turns: Number of turns.
        zoom: Divides the distance to the subject.
        view: Index of the captured view.

    Returns:
        world_to_camera [F, 4, 4].
    """
    up = rig_up(rig)
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
    """A path through all captured cameras, each followed by its nearest neighbor.

    Positions are interpolated linearly and rotations along the shortest arc.

    Args:
        rig: V cameras.
        frames: F.

    Returns:
        world_to_camera [F, 4, 4], and the index [F] of the nearest captured camera of each frame.
    """
    order = _neighbor_order(rig)
    where = torch.linspace(0, len(rig) - 1, frames, dtype=torch.float64)
    return _between(rig.camera_to_world.double()[order], where), order[where.round().long()]


def through_views(views: Sequence[FramedView], frames: int, width: int, height: int) -> tuple[Tensor, Tensor]:
    """A path through views framed by hand or by another program, in their order.

    Args:
        views: At least one view. As many views as frames are taken as they are; otherwise poses and fields of view are
            interpolated at equal steps. One view stands still.
        frames: F.
        width: Image width in pixels.
        height: Image height in pixels.

    Returns:
        world_to_camera [F, 4, 4] and K [F, 3, 3], float64.
    """
    w2c = torch.stack([view.world_to_camera.double() for view in views])
    K = torch.stack([view.intrinsics(width, height) for view in views])
    if len(views) in (1, frames):
        return w2c.expand(frames, 4, 4).clone(), K.expand(frames, 3, 3).clone()
    where = torch.linspace(0, len(views) - 1, frames, dtype=torch.float64)
    first, second, weight = _neighbors(where, len(views))
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(views), 1, 1)
    c2w[:, :3, :3] = w2c[:, :3, :3].transpose(1, 2)
    c2w[:, :3, 3] = -(c2w[:, :3, :3] @ w2c[:, :3, 3:])[..., 0]
    return _between(c2w, where), torch.lerp(K[first], K[second], weight[:, None, None])


def _neighbors(where: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """For positions [F] in a list of `count`: the indices [F] before and after, and the weight [F] of the latter."""
    first = where.floor().long().clamp(max=max(count - 2, 0))
    return first, (first + 1).clamp(max=count - 1), where - first


def _between(c2w: Tensor, where: Tensor) -> Tensor:
    """world_to_camera [F, 4, 4] at positions [F] in a list of camera_to_world [V, 4, 4].

    Centers are interpolated linearly and rotations along the shortest arc.
    """
    first, second, weight = _neighbors(where, len(c2w))
    quats = rotations.matrices_to_quats(c2w[:, :3, :3])
    rotation = rotations.quats_to_matrices(rotations.slerp(quats[first], quats[second], weight))
    center = c2w[first, :3, 3] * (1 - weight[:, None]) + c2w[second, :3, 3] * weight[:, None]
    result = torch.eye(4, dtype=torch.float64).repeat(len(where), 1, 1)
    result[:, :3, :3] = rotation.transpose(1, 2)
    result[:, :3, 3] = -(result[:, :3, :3] @ center[..., None])[..., 0]
    return result


def _neighbor_order(rig: Cameras) -> Tensor:
    """Indices [V] from each camera to the nearest remaining one, starting at view 0."""
    centers = rig.centers.double()
    order, left = [0], set(range(1, len(rig)))
    while left:
        nearest = min(left, key=lambda v: float((centers[v] - centers[order[-1]]).norm()))
        order.append(nearest)
        left.remove(nearest)
    return torch.tensor(order)
