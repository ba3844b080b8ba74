"""Camera paths: where a picture is taken from and at which time, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files.jsonfile import parse_json
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


def from_load3d(camera: dict[str, Any], width: int, height: int) -> tuple[Tensor, Tensor]:
    """(world_to_camera [4, 4], K [3, 3]) of ComfyUI's LOAD3D_CAMERA dictionary.

    The dictionary: position and target {x, y, z}, quaternion {x, y, z, w} where there is one, fov in degrees
    (vertical), zoom; its world is y up and the camera looks along −z. ComfyUI shows splats turned by half a turn
    about x, (x, y, z) → (x, −y, −z), so that what a scene exports and what is framed there is undone here, and a
    view framed by hand is the same in ComfyUI's renderer and in ours. Raises InputError.
    """
    turned = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    try:
        position = torch.tensor([float(camera["position"][axis]) for axis in "xyz"], dtype=torch.float64)
        target = torch.tensor([float(camera["target"][axis]) for axis in "xyz"], dtype=torch.float64)
        fov = float(camera.get("fov") or 35.0)
        zoom = float(camera.get("zoom") or 1.0)
        wxyz = [float(camera["quaternion"][axis]) for axis in "wxyz"] if camera.get("quaternion") else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The wired camera lacks position or target ({error}); wire a Load 3D camera output."
        ) from error
    numbers = torch.cat([position, target, torch.tensor([zoom, *(wxyz or [])], dtype=torch.float64)])
    if not 0 < fov < 180 or zoom <= 0 or not bool(torch.isfinite(numbers).all()):
        raise InputError(
            f"The wired camera has a field of view of {fov}° or a position that is no number; frame the shot again."
        )
    focal = 0.5 * height / math.tan(math.radians(fov) / 2) * zoom
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    if wxyz is None or not any(wxyz):
        return look_at(position * turned, target * turned, torch.tensor([0.0, -1.0, 0.0])), K
    # columns: right, up and back of the camera, in ComfyUI's world; rows below: right, down and forward, in ours
    axes = rotations.quats_to_matrices(torch.tensor(wxyz, dtype=torch.float64))
    w2c = torch.eye(4, dtype=torch.float64)
    w2c[:3, :3] = (axes * turned[:, None] * turned[None, :]).T
    w2c[:3, 3] = -w2c[:3, :3] @ (position * turned)
    return w2c, K


def to_load3d(rig: Cameras, view: int, focus: Tensor) -> dict[str, Any]:
    """One camera of a rig as ComfyUI's LOAD3D_CAMERA dictionary; what `from_load3d` undoes, but for the principal point.

    `focus` [3]: the camera is told to look at the point of its axis nearest to it.
    """
    turned = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    center, forward = rig.centers[view].double(), rig.forward[view].double()
    reach = max(float((focus.double() - center) @ forward), 1e-3)
    w2c = rig.world_to_camera[view].double()
    quat = rotations.matrices_to_quats(w2c[:3, :3].T * turned[:, None] * turned[None, :])
    fov = 2 * math.degrees(math.atan(rig.sizes[view][1] / 2 / float(rig.K[view, 1, 1])))
    return {
        "position": dict(zip("xyz", (center * turned).tolist(), strict=True)),
        "target": dict(zip("xyz", ((center + reach * forward) * turned).tolist(), strict=True)),
        "quaternion": dict(zip("wxyz", quat.tolist(), strict=True)),
        "fov": fov,
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def read_load3d(text: str) -> dict[str, Any] | None:
    """The LOAD3D_CAMERA dictionary that a player wrote as JSON; None for an empty text. Raises InputError."""
    if not text.strip():
        return None
    try:
        camera = parse_json(text)
    except ValueError as error:
        raise InputError(
            "The camera is no JSON; empty the field, or frame the shot in the player and press its camera button."
        ) from error
    if not isinstance(camera, dict):
        raise InputError(
            "The camera is JSON but no camera; empty the field, or frame the shot in the player and press its camera button."
        )
    from_load3d(camera, 100, 100)
    return camera
