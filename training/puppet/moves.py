"""What the figure does: rotations of its bones (degrees about x, y and z) and the place of its hips over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

# hips' height over the feet that a bend of the knees takes away, per 1 - cos
LEG = 0.46
Angles = tuple[float, float, float]


@dataclass
class Pose:
    """Bones by name; those that are not named stay as modeled."""

    turns: dict[str, Angles] = field(default_factory=dict)
    shift: Angles = (0.0, 0.0, 0.0)


def _wave(phase: float) -> float:
    return math.sin(2 * math.pi * phase)


def _knees(bend: float) -> dict[str, Angles]:
    """Both knees bent by `bend` degrees, feet flat."""
    return {
        f"{bone}.{side}": (angle, 0.0, 0.0)
        for side in "LR"
        for bone, angle in (("thigh", -bend), ("shin", 2 * bend), ("foot", -bend))
    }


def dance(t: float) -> Pose:
    """Four seconds: bounces on every beat, swinging arms, a full turn in the third second."""
    beat, bend = 2 * t, 14 + 12 * _wave(2 * t - 0.25)
    turned = 360 * _smooth((t - 2.0) / 1.0)
    side = _wave(beat / 2)
    raised = 55 * _smooth((t - 1.9) / 0.3) * _smooth((3.4 - t) / 0.4)
    turns = _knees(bend) | {
        "hips": (0.0, turned, 5 * side),
        "chest": (0.0, 14 * side, -9 * side),
        "head": (5 * _wave(beat), -8 * side, 11 * side),
        "bobble": (0.0, 0.0, 24 * _wave(beat / 2 - 0.1)),
        "arm.L": (-40 * side, 0.0, 24 + 30 * side + raised),
        "arm.R": (40 * side, 0.0, -24 + 30 * side - raised),
        "forearm.L": (0.0, -50.0 + raised / 2, 30.0),
        "forearm.R": (0.0, 50.0 - raised / 2, -30.0),
        "hand.L": (0.0, 0.0, 20 * _wave(beat)),
        "hand.R": (0.0, 0.0, 20 * _wave(beat)),
    }
    return Pose(turns, (0.05 * side, -LEG * (1 - math.cos(math.radians(bend))), 0.0))


def walk(t: float) -> Pose:
    """One second, two steps in place."""
    turns: dict[str, Angles] = {
        "hips": (0.0, 6 * _wave(t), 0.0),
        "chest": (4.0, -12 * _wave(t), 0.0),
        "head": (0.0, 6 * _wave(t), 3 * _wave(t)),
        "bobble": (14 * _wave(2 * t), 0.0, 0.0),
    }
    for side, phase, sign in (("L", t, 1), ("R", t + 0.5, -1)):
        turns[f"thigh.{side}"] = (-30 * _wave(phase), 0.0, 0.0)
        turns[f"shin.{side}"] = (26 - 26 * math.cos(2 * math.pi * (phase + 0.08)), 0.0, 0.0)
        turns[f"foot.{side}"] = (-8 * _wave(phase), 0.0, 0.0)
        turns[f"arm.{side}"] = (32 * _wave(phase), 0.0, -28.0 * sign)
        turns[f"forearm.{side}"] = (-24.0, -20.0 * sign, 0.0)
    return Pose(turns, (0.0, -0.012 + 0.018 * _wave(2 * t - 0.25), 0.0))


def wave(t: float) -> Pose:
    """Two seconds: a hand goes up, waves and comes down."""
    up = _smooth(t / 0.4) * _smooth((2.0 - t) / 0.4)
    return Pose(
        {
            "chest": (0.0, 8 * up, -5 * up),
            "head": (0.0, 6 * up, 8 * up),
            "arm.L": (0.0, 0.0, 62 * up),
            "forearm.L": (0.0, 0.0, up * (68 + 24 * _wave(2.5 * t))),
            "bobble": (0.0, 0.0, 10 * up * _wave(2.5 * t)),
        }
    )


def _smooth(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


# name -> seconds, and the pose at a time
MOVES: dict[str, tuple[float, Callable[[float], Pose]]] = {
    "Dance": (4.0, dance),
    "Walk": (1.0, walk),
    "Wave": (2.0, wave),
}
