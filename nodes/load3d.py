"""ComfyUI's LOAD3D_CAMERA: the dictionary that Load 3D, the player and Preview 4D Scene exchange. Does not import ComfyUI.

Its keys: position and target {x, y, z}; quaternion {x, y, z, w} where there is one; fov in degrees (vertical); zoom. Its
world is y up and the camera looks along -z. ComfyUI shows splats turned by half a turn about x, (x, y, z) -> (x, -y, -z):
that is undone here, so a view framed by hand is the same in ComfyUI's renderer and in the engine's.

Scenes stand upright in that world, as 4D Scene to Splat gives them. Cameras that are made here carry the turn that did it,
as a quaternion {x, y, z, w} under the key gs4d_turn: they can be taken back to the scene's own axes without the scene.
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

TURN = "gs4d_turn"
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


def _quaternion(camera: Any, key: str) -> list[float] | None:
    """The quaternion wxyz under a key of a camera; None where there is none."""
    return [float(camera[key][axis]) for axis in "wxyz"] if camera.get(key) else None


def framed_view(camera: Any, which: str = "") -> FramedView:
    """The framed view of one camera's dictionary; errors name it by `which`. Raises InputError."""
    try:
        position = torch.tensor([float(camera["position"][axis]) for axis in "xyz"], dtype=torch.float64)
        target = torch.tensor([float(camera["target"][axis]) for axis in "xyz"], dtype=torch.float64)
        fov = float(camera.get("fov") or 35.0)
        zoom = float(camera.get("zoom") or 1.0)
        wxyz, turn_wxyz = _quaternion(camera, "quaternion"), _quaternion(camera, TURN)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "NOD-024",
            f"The connected camera{which} lacks position or target ({error}); connect the camera output of a Load 3D node.",
        ) from error
    numbers = torch.cat([position, target, torch.tensor([zoom, *(wxyz or []), *(turn_wxyz or [])]).double()])
    if not 0 < fov < 180 or zoom <= 0 or not bool(torch.isfinite(numbers).all()):
        raise InputError(
            "NOD-025",
            f"The connected camera{which} has a field of view of {fov}° or a position that is not finite; frame the "
            "shot again.",
        )
    is_known = turn_wxyz is not None and any(turn_wxyz)
    turn = rotations.quats_to_matrices(torch.tensor(turn_wxyz, dtype=torch.float64)) if is_known else None
    is_upright = True if is_known else None
    if wxyz is None or not any(wxyz):
        pose = look_at(position * TURNED, target * TURNED, torch.tensor([0.0, -1.0, 0.0]))
        return FramedView(pose, fov, zoom, is_upright, turn)
    # columns: right, up and back of the camera, in ComfyUI's world; rows below: right, down and forward, in ours
    axes = rotations.quats_to_matrices(torch.tensor(wxyz, dtype=torch.float64))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = (axes * TURNED[:, None] * TURNED[None, :]).T
    pose[:3, 3] = -pose[:3, :3] @ (position * TURNED)
    return FramedView(pose, fov, zoom, is_upright, turn)


def to_load3d(rig: Cameras, view: int, focus: Tensor, turn: Tensor | None = None) -> dict[str, Any]:
    """One camera of a rig as a LOAD3D_CAMERA dictionary; the inverse of `framed_view`, except for the principal point.

    Args:
        rig: The cameras.
        view: Index of the camera.
        focus: A point [3]; the camera is told to look at the point of its axis nearest to it.
        turn: Rotation [3, 3] from the rig's coordinates to those in which the scene stands upright.
    """
    camera = _in_own_axes(rig, view, focus)
    return camera if turn is None else upright(camera, turn)


def upright(camera: dict[str, Any], turn: Tensor) -> dict[str, Any]:
    """A camera that was framed in a scene's own axes, in ComfyUI's world, where `turn` [3, 3] makes the scene stand upright.

    Cameras that say that they are in that world already stay as they are.
    """
    if camera.get(TURN):
        return camera
    quat = rotations.matrices_to_quats(turn.double())
    made = {**camera, TURN: dict(zip("wxyz", quat.tolist(), strict=True))}
    # the same rotation between the worlds of the viewer, which are turned by half a turn about x
    inside = turn.double() * TURNED[:, None] * TURNED[None, :]
    for key in ("position", "target"):
        place = torch.tensor([float(camera[key][axis]) for axis in "xyz"], dtype=torch.float64)
        made[key] = dict(zip("xyz", (inside @ place).tolist(), strict=True))
    own = _quaternion(camera, "quaternion")
    if own is not None and any(own):
        q = rotations.multiply(rotations.matrices_to_quats(inside), torch.tensor(own, dtype=torch.float64))
        made["quaternion"] = dict(zip("wxyz", q.tolist(), strict=True))
    return made


def _in_own_axes(rig: Cameras, view: int, focus: Tensor) -> dict[str, Any]:
    """As `to_load3d`, without a turn."""
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
    return [to_load3d(cameras, i, focus, path.turn) for i in range(len(cameras))]


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
