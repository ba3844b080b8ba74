"""Camera movements by name: each starts at a given camera and goes one way.

Pan, tilt and roll turn the camera on the spot; truck, pedestal and dolly slide it; arc goes around the subject; handheld
sways as an operator does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOVES = (
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "roll left",
    "roll right",
    "truck left",
    "truck right",
    "pedestal up",
    "pedestal down",
    "dolly in",
    "dolly out",
    "arc left",
    "arc right",
    "handheld",
)

# at amount 1: degrees of a turn, share of the distance to the subject of a slide
DEGREES, SHARE = 30.0, 0.5
# of a handheld camera at amount 1: degrees, and share of the distance
SWAY_DEGREES, SWAY_SHARE = 0.8, 0.006
# cycles per second of a handheld camera's sway, slow to fast, with their strengths
SWAY = ((0.31, 0.55), (0.83, 0.3), (2.1, 0.15))

# words of a movement along or around the axis of `_axis`; the others go the opposite way
_POSITIVE = ("right", "up", "in")


def move(
    kind: str, start: Tensor, focus: Tensor, up: Tensor, frames: int, fps: float, amount: float
) -> Tensor:
    """A named movement.

    Args:
        kind: One of `MOVES`.
        start: world_to_camera [4, 4] of the first frame.
        focus: The subject's position [3]; distances are relative to its distance from the first camera.
        up: Upward direction [3] of the world.
        frames: F.
        fps: Frames per second, for the rhythm of a handheld camera.
        amount: 1 turns by 30°, slides by half of the distance to the subject (a dolly in halves the distance and never
            arrives), or sways as a steady hand does.

    Returns:
        world_to_camera [F, 4, 4] float64; the first one is `start`.
    """
    start, focus, up = start.double(), focus.double(), up.double()
    distance = max(float((start[:3, :3] @ focus + start[:3, 3]).norm()), 1e-9)
    name, _, way = kind.partition(" ")
    progress = torch.linspace(0, 1, frames, dtype=torch.float64)
    if name == "handheld":
        motion = _sway(torch.arange(frames, dtype=torch.float64) / fps, amount, distance)
    elif name == "arc":
        return _arc(start, focus, up, progress * math.radians(DEGREES * amount), way)
    else:
        sign = 1.0 if way in _POSITIVE else -1.0
        axis, motion = _axis(name, start[:3, :3] @ up), _identity(frames)
        if name in ("pan", "tilt", "roll"):
            motion[:, :3, :3] = _rotation(axis, progress * sign * math.radians(DEGREES * amount))
        else:
            share = 1 - SHARE**amount if kind == "dolly in" else SHARE * amount
            motion[:, :3, 3] = axis * (progress * sign * distance * share)[:, None]
    return _rigid_inverse(motion) @ start


def _identity(frames: int) -> Tensor:
    return torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)


def _rotation(axis: Tensor, angles: Tensor) -> Tensor:
    """Rotation matrices [F, 3, 3] by `angles` [F] in radians around a unit `axis` [3], by Rodrigues' formula."""
    x, y, z = torch.nn.functional.normalize(axis, dim=0).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    sine, cosine = angles.sin()[:, None, None], angles.cos()[:, None, None]
    return torch.eye(3, dtype=torch.float64) + sine * cross + (1 - cosine) * (cross @ cross)


def _axis(name: str, up: Tensor) -> Tensor:
    """The axis [3] of a turn or slide in the camera's axes (x right, y down, z forward), given its `up` [3].

    Pan and pedestal follow the world's vertical, however the camera is tilted.
    """
    x, _, z = torch.eye(3, dtype=torch.float64)
    up = torch.nn.functional.normalize(up, dim=0)
    return {"pan": -up, "tilt": x, "roll": z, "truck": x, "pedestal": up, "dolly": z}[name]


def _arc(start: Tensor, focus: Tensor, up: Tensor, angles: Tensor, way: str) -> Tensor:
    """world_to_camera [F, 4, 4] around the subject; seen from above, a camera that goes right turns counterclockwise."""
    around = _identity(len(angles))
    around[:, :3, :3] = _rotation(up, angles if way == "right" else -angles)
    around[:, :3, 3] = focus - (around[:, :3, :3] @ focus[:, None])[..., 0]
    return start @ _rigid_inverse(around)


def _sway(seconds: Tensor, amount: float, distance: float) -> Tensor:
    """Motions [F, 4, 4] of a handheld camera; it starts at rest, and its six ways are out of step."""
    ways = torch.arange(6, dtype=torch.float64)
    sway = torch.zeros(len(seconds), 6, dtype=torch.float64)
    for cycles, strength in SWAY:
        # the golden ratio spreads rhythms and phases without repeating
        rhythm = cycles * (1 + 0.13 * ((ways * 0.618) % 1))
        phase = 2 * math.pi * ((ways * 0.618 + cycles) % 1)
        sway += strength * (torch.sin(2 * math.pi * rhythm * seconds[:, None] + phase) - torch.sin(phase))
    turns = amount * math.radians(SWAY_DEGREES) * sway[:, :3]
    motion = _identity(len(seconds))
    x, y, z = torch.eye(3, dtype=torch.float64)
    motion[:, :3, :3] = (
        _rotation(y, turns[:, 0]) @ _rotation(x, turns[:, 1]) @ _rotation(z, 0.5 * turns[:, 2])
    )
    motion[:, :3, 3] = amount * SWAY_SHARE * distance * sway[:, 3:]
    return motion


def _rigid_inverse(motion: Tensor) -> Tensor:
    """Inverses [F, 4, 4] of rigid motions, by transposing their rotations."""
    rotation = motion[:, :3, :3].transpose(1, 2)
    result = _identity(len(motion))
    result[:, :3, :3] = rotation
    result[:, :3, 3] = -(rotation @ motion[:, :3, 3:])[..., 0]
    return result
