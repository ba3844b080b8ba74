"""How the demo head moves: expressions by name and poses over frames, placed by hand. Nothing is random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# radians of gaze at which the lids of eyeLookUp, eyeLookDown, eyeLookIn and eyeLookOut are fully turned
FULL_GAZE = 0.45
PERIOD = 24  # frames after which the performance repeats


@dataclass
class Performance:
    """Parameters of T frames."""

    frames: int
    expressions: dict[str, Floats] = field(default_factory=dict[str, Floats])  # name → [T]
    poses: dict[str, Floats] = field(default_factory=dict[str, Floats])  # FLAME's name → [T, 3 or 6]

    def add(self, weight: Floats, *names: str) -> None:
        for name in names:
            self.expressions[name] = self.expressions.get(name, np.zeros(self.frames)) + weight

    def both(self, weight: Floats, *stems: str) -> None:
        self.add(weight, *(stem + side for stem in stems for side in ("Left", "Right")))

    def look(self, yaw: Floats, pitch: Floats) -> None:
        """Turn both eyes (radians; left and up are positive) and let the lids follow."""
        turned = np.stack([-pitch, yaw, np.zeros_like(yaw)], axis=1)
        self.poses["eyes_pose"] = np.concatenate([turned, turned], axis=1)
        left, right = np.maximum(yaw, 0) / FULL_GAZE, np.maximum(-yaw, 0) / FULL_GAZE
        self.add(left, "eyeLookOutLeft", "eyeLookInRight")
        self.add(right, "eyeLookInLeft", "eyeLookOutRight")
        self.both(np.maximum(pitch, 0) / FULL_GAZE, "eyeLookUp")
        self.both(np.maximum(-pitch, 0) / FULL_GAZE, "eyeLookDown")


def bumps(frames: int) -> Callable[..., Floats]:
    """A function of peak, half width and center: a smooth bump that repeats every 24 frames."""

    def bump(peak: float, width: float, *centers: float) -> Floats:
        total = np.zeros(frames)
        for center in centers:
            away = (np.arange(frames) - center + PERIOD / 2) % PERIOD - PERIOD / 2
            total += peak * np.cos(np.clip(away / width, -1, 1) * np.pi / 2) ** 2
        return total

    return bump


def talk(frames: int) -> Performance:
    """The captured person: frames 18 to 23 hold mixtures that the first 18 do not."""
    made, bump = Performance(frames), bumps(frames)
    phase = np.arange(frames) * 2 * np.pi / PERIOD
    made.both(np.full(frames, 0.10), "eyeBlink")
    # a greeting with a smile
    made.add(bump(0.35, 2, 2), "jawOpen")
    made.both(bump(0.85, 3.5, 5), "mouthSmile")
    made.both(bump(0.5, 3.5, 5), "cheekSquint", "mouthUpperUp")
    made.both(bump(0.3, 3, 5), "eyeSquint")
    made.both(bump(0.95, 1.6, 8), "eyeBlink")
    # rounded, then wide
    made.add(bump(0.8, 2.2, 9.5), "mouthPucker")
    made.add(bump(0.7, 2, 11), "mouthFunnel")
    made.both(bump(0.8, 2.2, 14), "mouthStretch", "mouthLowerDown")
    made.add(bump(0.9, 3, 13.5), "browInnerUp")
    made.both(bump(0.7, 3, 13.5), "browOuterUp")
    made.both(bump(0.5, 2.5, 13.5), "eyeWide")
    made.both(bump(0.8, 2, 16.5), "browDown", "mouthPress")
    made.both(bump(0.4, 2, 16.5), "noseSneer")
    # held out: one-sided smile, wink, jaw to the side
    made.add(bump(0.9, 2.5, 19.5), "mouthSmileLeft", "mouthDimpleLeft")
    made.add(bump(0.9, 1.8, 20), "eyeBlinkLeft", "cheekSquintLeft")
    made.add(bump(0.7, 2.2, 20.5), "browOuterUpRight")
    made.add(bump(0.5, 2, 22), "jawLeft", "mouthLeft")
    made.both(bump(0.6, 2, 22.5), "mouthUpperUp")
    jaw = bump(0.28, 2.2, 11.5) + bump(0.16, 1.6, 14.5) + bump(0.24, 2.2, 22)
    made.poses["jaw_pose"] = np.stack([jaw, 0 * jaw, 0 * jaw], axis=1)
    made.poses["neck_pose"] = np.stack(
        [0.07 * np.sin(2 * phase), 0.22 * np.sin(phase + 0.3), 0.05 * np.sin(phase + 1)], axis=1
    )
    made.poses["rotation"] = np.stack([0.02 * np.sin(phase), 0.06 * np.sin(phase), 0 * phase], axis=1)
    made.poses["translation"] = np.stack([0.004 * np.sin(phase), 0.003 * np.cos(phase), 0 * phase], axis=1)
    made.look(0.18 * np.sin(phase + np.pi) + bump(0.2, 2, 17), bump(-0.25, 2.5, 16) + bump(0.15, 2.5, 13))
    return made


def answer(frames: int) -> Performance:
    """The driver: another person nods, says a few syllables and laughs."""
    made, bump = Performance(frames), bumps(frames)
    phase = np.arange(frames) * 2 * np.pi / PERIOD
    made.both(np.full(frames, 0.06), "eyeBlink")
    made.both(np.full(frames, 0.15), "mouthSmile")
    made.add(bump(0.6, 1.7, 2, 5), "jawOpen")
    made.add(bump(0.9, 1.7, 3.5), "mouthPucker")
    made.add(bump(0.6, 1.8, 7), "mouthRollLower", "mouthRollUpper")
    made.both(bump(0.9, 1.5, 9), "eyeBlink")
    made.both(bump(0.9, 4, 14), "mouthSmile")
    made.both(bump(0.6, 4, 14), "cheekSquint", "eyeSquint", "mouthUpperUp")
    made.add(bump(0.6, 3, 18), "browInnerUp")
    made.both(bump(0.5, 2, 20), "mouthFrown")
    jaw = bump(0.3, 2.5, 13) + bump(0.2, 1.5, 16)
    made.poses["jaw_pose"] = np.stack([jaw, 0 * jaw, 0 * jaw], axis=1)
    made.poses["neck_pose"] = np.stack(
        [0.1 * np.sin(3 * phase), 0.15 * np.sin(phase), 0.08 * np.sin(phase)], axis=1
    )
    made.poses["rotation"] = np.zeros((frames, 3))
    made.poses["translation"] = np.zeros((frames, 3))
    made.look(0.15 * np.sin(2 * phase), bump(-0.2, 3, 20))
    return made
