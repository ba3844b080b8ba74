"""Rigs for scenes that do not have one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .cameras import Cameras, look_at
from .rotations import axis_angles_to_matrices

UPS = {"y up": (0.0, 1.0, 0.0), "y down": (0.0, -1.0, 0.0), "z up": (0.0, 0.0, 1.0)}
# of the right axes' spread along up, relative to the spread across it: a roll of about 10 degrees in a wide arc
LEVEL = 0.1
# of the right axes across up: an arc of about 10 degrees
LEAST_SPREAD = 1e-2
# lengths of mean axes that tell a direction
LEAST_HINT, LEAST_AGREEMENT = 0.1, 0.5
CAMERAS = 8
PIXELS = 512
# degrees
FIELD_OF_VIEW = 40.0
# of TRELLIS' and GVFDiffusion's renders of canonical Gaussians: world units, degrees
ORBIT_RADIUS, ORBIT_FIELD_OF_VIEW = 2.0, 49.1


def found_up(rig: Cameras) -> Tensor | None:
    """The rig's upward direction [3] (float64, unit length); None where its cameras do not agree about it.

    Cameras are seldom rolled, so up is the direction in which the least of their right axes lies; this also holds where all
    of them look down from one side, which tilts the mean of their up axes. Cameras that do not tell it in this way (a single
    one, parallel or rolled ones) are taken to stand upright on average.
    """
    if not len(rig):
        return None
    axes = rig.world_to_camera[:, :3, :3].double()
    mean_up, mean_forward = -axes[:, 1].mean(0), axes[:, 2].mean(0)
    spread, directions = torch.linalg.eigh(axes[:, 0].T @ axes[:, 0] / len(rig))
    if float(spread[0]) < LEVEL * float(spread[1]) and float(spread[1]) > LEAST_SPREAD:
        up = directions[:, 0]
        # cameras that look straight down do not tell which way is up by their own up axes
        for hint in (mean_up, -mean_forward):
            toward = float(up @ hint)
            if abs(toward) > LEAST_HINT:
                return up if toward > 0 else -up
    norm = float(mean_up.norm())
    return mean_up / norm if norm > LEAST_AGREEMENT else None


def rig_up(rig: Cameras) -> Tensor:
    """The rig's upward direction [3] (float64), as `found_up`; at a loss, the mean of the cameras' own up axes, or z."""
    up = found_up(rig)
    if up is not None:
        return up
    mean = -rig.world_to_camera[:, 1, :3].double().mean(0)
    is_known = float(mean.norm()) > 1e-6
    return torch.nn.functional.normalize(mean, dim=0) if is_known else torch.tensor([0.0, 0, 1]).double()


def up_in_words(up: Tensor) -> str:
    """An upward direction [3] for people: an axis such as +z where it is one within a degree, else three numbers."""
    numbers = up.tolist()
    i = max(range(3), key=lambda axis: abs(numbers[axis]))
    if abs(numbers[i]) > math.cos(math.radians(1)):
        return f"{'+' if numbers[i] > 0 else '−'}{'xyz'[i]}"
    return f"({', '.join(f'{number:.2f}' for number in numbers)})"


def upright_turn(rig: Cameras) -> Tensor | None:
    """Rotation [3, 3] (float64) from the rig's world to one with y down; None where the rig does not tell what is up.

    Worlds with y up are turned by 180° about x and those with z up by 90°; others take the shortest way from there.
    """
    up = found_up(rig)
    if up is None:
        return None
    wanted = torch.tensor(UPS["y down"], dtype=torch.float64)
    first = torch.eye(3, dtype=torch.float64)
    if float(up @ wanted) < -0.5:
        first = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
        up = first @ up
    axis = torch.linalg.cross(up, wanted)
    angle = math.atan2(float(axis.norm()), float(up @ wanted))
    rotation = axis_angles_to_matrices(torch.nn.functional.normalize(axis, dim=0) * angle)
    return rotation @ first


def is_unturned(turn: Tensor) -> bool:
    """Whether a rotation [3, 3] is the identity, but for rounding."""
    return torch.allclose(turn.double(), torch.eye(3, dtype=torch.float64), atol=1e-9)


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
