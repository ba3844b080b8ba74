"""Random motions of a rig: swings, gaits, moves from pose to pose, breathing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .rig import Motion, Rig


def random_motion(rig: Rig, frames: int, generator: torch.Generator, strength: float = 1.0) -> Motion:
    """A motion of `frames` frames over one unit of time.

    Args:
        rig: Whose amplitudes limit the rotations.
        frames: T.
        generator: All randomness.
        strength: Factor of all rotations and shifts.
    """

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    joints = len(rig.joints)
    t = torch.arange(frames) / frames
    kind = float(rand(1))
    active = (rand(joints) < 0.8).float()
    amplitude = rig.amplitudes * active[:, None] * (0.5 + 0.8 * rand(joints, 1))
    if kind < 0.45:
        turns = _swings(amplitude, t, generator)
    elif kind < 0.6:
        # a gait: one frequency, and the rig's own phases
        wave = torch.sin(2 * math.pi * ((1 + float(rand(1))) * t[:, None] + rig.phases + rand(1)))
        turns = wave[..., None] * amplitude * (1 if float(rand(1)) < 0.5 else -1)
    else:
        turns = _poses(amplitude, t, generator)
    sizes = torch.ones(frames, joints)
    for j in rig.breathes:
        if float(rand(1)) < 0.5:
            depth, speed, phase = 0.1 + 0.25 * rand(1), 0.5 + 1.5 * rand(1), rand(1)
            sizes[:, j] += depth * torch.sin(2 * math.pi * (speed * t + phase))
    way = 0.12 * torch.randn(3, generator=generator) * torch.tensor([1.0, 0.6, 1.0])
    shifts = torch.sin(2 * math.pi * (0.25 + 0.5 * rand(1)) * t)[:, None] * way
    return Motion(turns * strength, sizes, shifts * strength)


def _swings(amplitude: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    joints = len(amplitude)
    direction = torch.randn(joints, 3, generator=generator).clamp(-1.5, 1.5)
    speed = torch.tensor([0.5, 0.75, 1.0, 1.5])[torch.randint(4, (joints,), generator=generator)]
    phase = torch.rand(joints, generator=generator)
    return torch.sin(2 * math.pi * (speed * t[:, None] + phase))[..., None] * amplitude * direction


def _poses(amplitude: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    count = int(torch.randint(2, 5, (1,), generator=generator))
    poses = torch.randn(count, *amplitude.shape, generator=generator).clamp(-1.6, 1.6) * amplitude
    place = t * (count - 1)
    before = place.long().clamp(max=count - 2)
    part = place - before
    smooth = (part * part * (3 - 2 * part))[:, None, None]
    return poses[before] * (1 - smooth) + poses[before + 1] * smooth
