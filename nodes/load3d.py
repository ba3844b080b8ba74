"""ComfyUI's LOAD3D_CAMERA: the dictionary that Load 3D, the player and Preview 4D Scene exchange. Does not import ComfyUI.

Its keys: position and target {x, y, z}; quaternion {x, y, z, w} where there is one; fov in degrees (vertical); zoom. Its
world is y up and the camera looks along -z. ComfyUI shows splats turned by half a turn about x, (x, y, z) -> (x, -y, -z):
that is undone here, so a view framed by hand is the same in ComfyUI's renderer and in the engine's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..engine.errors import InputError
from ..engine.files.jsonfile import parse_json
from ..engine.render.camera_paths import CameraPath, FramedView, rig_focus
from ..engine.scene import Cameras, rotations
from ..engine.scene.cameras import look_at

TURNED = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)


def from_load3d(camera: Any) -> tuple[FramedView, ...]:
    """The framed views of a LOAD3D_CAMERA value: a dictionary is one view, a list of dictionaries is a path.

    Raises:
        InputError: The list is empty, or a camera of it lacks a position or has impossible numbers.
    """
    if not isinstance(camera, list | tuple):
        return (framed_view(camera),)
    if not camera:
        raise InputError(
            "NOD-055", "The connected list of cameras is empty; connect at least one camera to it."
        )
    return tuple(framed_view(each, f" {i} of the list") for i, each in enumerate(camera))


def framed_view(camera: Any, which: str = "") -> FramedView:
    """The framed view of one camera's dictionary; errors name it by `which`. Raises InputError."""
    try:
        position = torch.tensor([float(camera["position"][axis]) for axis in "xyz"], dtype=torch.float64)
        target = torch.tensor([float(camera["target"][axis]) for axis in "xyz"], dtype=torch.float64)
        fov = float(camera.get("fov") or 35.0)
        zoom = float(camera.get("zoom") or 1.0)
        wxyz = [float(camera["quaternion"][axis]) for axis in "wxyz"] if camera.get("quaternion") else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "NOD-024",
            f"The connected camera{which} lacks position or target ({error}); connect the camera output of a Load 3D node.",
        ) from error
    numbers = torch.cat([position, target, torch.tensor([zoom, *(wxyz or [])], dtype=torch.float64)])
    if not 0 < fov < 180 or zoom <= 0 or not bool(torch.isfinite(numbers).all()):
        raise InputError(
            "NOD-025",
            f"The connected camera{which} has a field of view of {fov}° or a position that is not finite; frame the "
            "shot again.",
        )
    if wxyz is None or not any(wxyz):
        pose = look_at(position * TURNED, target * TURNED, torch.tensor([0.0, -1.0, 0.0]))
        return FramedView(pose, fov, zoom)
    # columns: right, up and back of the camera, in ComfyUI's world; rows below: right, down and forward, in ours
    axes = rotations.quats_to_matrices(torch.tensor(wxyz, dtype=torch.float64))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = (axes * TURNED[:, None] * TURNED[None, :]).T
    pose[:3, 3] = -pose[:3, :3] @ (position * TURNED)
    return FramedView(pose, fov, zoom)


def to_load3d(rig: Cameras, view: int, focus: Tensor) -> dict[str, Any]:
    """One camera of a rig as a LOAD3D_CAMERA dictionary; the inverse of `framed_view`, except for the principal point.

    `focus` [3]: the camera is told to look at the point of its axis nearest to it.
    """
    center, forward = rig.centers[view].double(), rig.forward[view].double()
    reach = max(float((focus.double() - center) @ forward), 1e-3)
    pose = rig.world_to_camera[view].double()
    quat = rotations.matrices_to_quats(pose[:3, :3].T * TURNED[:, None] * TURNED[None, :])
    fov = 2 * math.degrees(math.atan(rig.sizes[view][1] / 2 / float(rig.K[view, 1, 1])))
    return {
        "position": dict(zip("xyz", (center * TURNED).tolist(), strict=True)),
        "target": dict(zip("xyz", ((center + reach * forward) * TURNED).tolist(), strict=True)),
        "quaternion": dict(zip("wxyz", quat.tolist(), strict=True)),
        "fov": fov,
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def path_to_load3d(path: CameraPath) -> list[dict[str, Any]]:
    """The cameras of a path as a list of LOAD3D_CAMERA dictionaries; the inverse of `from_load3d`, except for times."""
    cameras = path.cameras
    focus = path.focus
    if focus is None:
        focus = rig_focus(cameras, (cameras.centers + cameras.forward).double().mean(0))
    return [to_load3d(cameras, i, focus) for i in range(len(cameras))]


def read_load3d(text: str) -> dict[str, Any] | None:
    """The LOAD3D_CAMERA dictionary that a player wrote as JSON; None for an empty text. Raises InputError."""
    if not text.strip():
        return None
    try:
        camera = parse_json(text)
    except ValueError as error:
        raise InputError(
            "NOD-026",
            "The camera is not valid JSON; clear the field, or frame the shot in the player and press its camera button.",
        ) from error
    if not isinstance(camera, dict):
        raise InputError(
            "NOD-027",
            "The camera JSON does not describe a camera; clear the field, or frame the shot in the player and press its "
            "camera button.",
        )
    framed_view(camera)
    return camera
