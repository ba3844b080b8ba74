"""Cameras of a USD stage, as they are at its first frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...files.paths import printable
from ...scene import Cameras
from ...scene.cameras import Origin, look_at
from .camera_prim import SIZE
from .library import Library

# pixels of the shorter side, where no size is noted: USD's cameras have none
PIXELS = 512
LARGEST = 1 << 15
# width to height, and back
WIDEST = 10.0
# cameras of a stage that are read
MOST = 16
LONGEST_NAME = 60
# cameras that a note names
NAMED = 4
# radians of a roll that nobody sees
LEVEL = 1e-4
# lenses, which may be animated
LENS = (
    "FocalLength",
    "HorizontalAperture",
    "VerticalAperture",
    "HorizontalApertureOffset",
    "VerticalApertureOffset",
)


@dataclass(frozen=True, eq=False)
class StageCamera:
    """One camera at the first frame, in the stage's axes and in meters."""

    camera: Cameras
    # the camera, and what was not read of it
    note: str


@dataclass(frozen=True, eq=False)
class StageCameras:
    """The perspective cameras of a stage, and how many others it has."""

    found: tuple[StageCamera, ...]
    others: int

    def before(self, rig: Cameras, bounds: Tensor) -> tuple[Cameras, str]:
        """A rig that starts with the cameras that look at the subject, and one line on all of them (empty without any).

        Args:
            rig: Cameras in a ring around the subject. They step back until the first camera's lens sees all that they saw: a
                camera path takes its lens from the first camera and its distance from all of them.
            bounds: Minimum and maximum corner [2, 3] of the subject, in the rig's coordinates.
        """
        middle, radius = bounds.mean(0), float((bounds[1] - bounds[0]).norm()) / 2
        placed = [(each.camera.with_origin(rig.origin), each.note) for each in self.found]
        near = [(camera, note) for camera, note in placed if _passes(camera, middle) <= radius]
        parts = [note for _, note in near[:NAMED]]
        if len(near) > NAMED:
            parts.append(f"{len(near) - NAMED} more")
        left_out = len(placed) - len(near)
        if left_out:
            parts.append(f"{left_out} left out, which look past the Gaussians")
        if self.others:
            parts.append(f"{self.others} left out (orthographic, mirrored, without a lens, or beyond {MOST})")
        line = f"USD cameras: {'; '.join(parts)}." if parts else ""
        if not near:
            return rig, line
        cameras = [*(camera for camera, _ in near), _stepped_back(rig, near[0][0], middle)]
        joined = Cameras(
            torch.cat([each.world_to_camera for each in cameras]),
            torch.cat([each.K for each in cameras]),
            tuple(size for each in cameras for size in each.sizes),
            tuple(name for each in cameras for name in each.names),
            rig.origin,
        )
        return joined, line


def read_cameras(
    usd: Library, stage: Any, code: Any, scale: float, up: Tensor, origin: Origin
) -> StageCameras:
    """The perspective cameras of a stage.

    Cameras are made level: a rig tells by its cameras which way is up, and a rolled one would tilt the scene.

    Args:
        usd: The library.
        stage: A stage.
        code: The time code of the first frame.
        scale: Meters per unit.
        up: The stage's up axis [3].
        origin: What the stage's positions are relative to.
    """
    found: list[StageCamera] = []
    names: list[str] = []
    others = 0
    for prim in stage.Traverse(usd.Usd.TraverseInstanceProxies()):
        if not prim.IsA(usd.UsdGeom.Camera):
            continue
        camera = usd.UsdGeom.Camera(prim)
        pose, lens = _pose(usd, prim, code, scale), _lens(usd, camera, code)
        if pose is None or lens is None or len(found) == MOST:
            others += 1
            continue
        names.append(_name(prim, names))
        one = Cameras(_level(pose, up)[None], lens[0][None], (lens[1],), (names[-1],), origin)
        found.append(StageCamera(one, _note(names[-1], camera, _roll(pose, up))))
    return StageCameras(tuple(found), others)


def _passes(camera: Cameras, place: Tensor) -> float:
    """How far from a place [3] a camera's axis passes."""
    return float(torch.linalg.cross(place - camera.centers[0].double(), camera.forward[0].double()).norm())


def _stepped_back(ring: Cameras, camera: Cameras, middle: Tensor) -> Cameras:
    """A ring around `middle` with the lens and image size of a camera, at the distance that shows as much."""
    width, height = camera.sizes[0]
    K = camera.K.clone()
    K[:, 0, 2], K[:, 1, 2] = width / 2, height / 2
    # distances go with the inverse sines of half of the narrower field of view
    wide = max(2 * float(K[0, 0, 0]) / width, 2 * float(K[0, 1, 1]) / height)
    before = max(2 * float(ring.K[0, 0, 0]) / ring.sizes[0][0], 2 * float(ring.K[0, 1, 1]) / ring.sizes[0][1])
    further = math.hypot(wide, 1) / math.hypot(before, 1)
    poses = ring.world_to_camera.clone()
    centers = middle + further * (ring.centers - middle)
    poses[:, :3, 3] = -(poses[:, :3, :3] @ centers[:, :, None]).squeeze(-1)
    return replace(
        ring, world_to_camera=poses, K=K.repeat(len(ring), 1, 1), sizes=((width, height),) * len(ring)
    )


def _pose(usd: Library, prim: Any, code: Any, scale: float) -> Tensor | None:
    """camera_to_world [4, 4] (float64) in OpenCV axes; None where it is not one."""
    matrix = torch.tensor(np.array(usd.UsdGeom.XformCache(code).GetLocalToWorldTransform(prim)).T)
    if not bool(torch.isfinite(matrix).all()) or float(torch.linalg.det(matrix[:3, :3])) < 1e-30:
        return None
    u, _, v = torch.linalg.svd(matrix[:3, :3])
    pose = torch.eye(4, dtype=torch.float64)
    # USD's cameras look along -z with y up
    pose[:3, :3] = u @ v @ torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    pose[:3, 3] = scale * matrix[:3, 3]
    return pose


def _roll(pose: Tensor, up: Tensor) -> float:
    """How far a camera's right axis leans out of the horizon, in radians."""
    return math.asin(max(-1.0, min(1.0, float(pose[:3, 0] @ up))))


def _level(pose: Tensor, up: Tensor) -> Tensor:
    """world_to_camera [4, 4] of a camera at the same place, with the same direction and without roll."""
    place, forward = pose[:3, 3], pose[:3, 2]
    # straight up or down there is no roll, and its own axis says where the image's top is
    is_steep = float(torch.linalg.cross(forward, up).norm()) < 1e-3
    return look_at(place, place + forward, -pose[:3, 1] if is_steep else up)


def _lens(usd: Library, camera: Any, code: Any) -> tuple[Tensor, tuple[int, int]] | None:
    """K [3, 3] and an image size; None for a camera that is not a pinhole."""
    if camera.GetProjectionAttr().Get(code) != usd.UsdGeom.Tokens.perspective:
        return None
    values = [getattr(camera, f"Get{name}Attr")().Get(code) for name in LENS]
    focal, wide, high, right, above = (math.nan if value is None else float(value) for value in values)
    if not all(map(math.isfinite, (focal, wide, high, right, above))) or min(focal, wide, high) <= 0:
        return None
    if not 1 / WIDEST <= wide / high <= WIDEST:
        return None
    width, height = size = _size(usd, camera, wide / high)
    fx, fy = focal * width / wide, focal * height / high
    K = torch.tensor(
        [[fx, 0, width / 2 - right * fx / focal], [0, fy, height / 2 + above * fy / focal], [0, 0, 1]],
        dtype=torch.float64,
    )
    return K, size


def _size(usd: Library, camera: Any, aspect: float) -> tuple[int, int]:
    """The image size (width, height) that this pack noted, or one of the lens's aspect ratio."""
    noted = camera.GetPrim().GetCustomDataByKey(SIZE)
    if isinstance(noted, usd.Gf.Vec2i) and all(0 < side <= LARGEST for side in noted):
        return int(noted[0]), int(noted[1])
    return round(PIXELS * max(aspect, 1)), round(PIXELS * max(1 / aspect, 1))


def _name(prim: Any, taken: list[str]) -> str:
    """A name that no other camera has."""
    name = printable(str(prim.GetName()))[:LONGEST_NAME]
    if name.startswith("ring"):
        # of the cameras around a scene
        name = f"camera {name}"
    number, unique = 2, name
    while unique in taken:
        number, unique = number + 1, f"{name} {number}"
    return unique


def _note(name: str, camera: Any, roll: float) -> str:
    """What was read of a camera, and what was not."""
    samples: set[float] = set()
    if camera.TransformMightBeTimeVarying():
        samples.update(camera.GetTimeSamples())
    for lens in LENS:
        attribute = getattr(camera, f"Get{lens}Attr")()
        if attribute.ValueMightBeTimeVarying():
            samples.update(attribute.GetTimeSamples())
    parts: list[str] = []
    if len(samples) > 1:
        parts.append(f"the first of {len(samples)} samples of its motion")
    if abs(roll) > LEVEL:
        parts.append(f"without its roll of {math.degrees(abs(roll)):.1f}°")
    return f"{name} ({', '.join(parts)})" if parts else name
