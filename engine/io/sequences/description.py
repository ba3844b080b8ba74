"""`sequence.json`, which lies with the frames of an exported sequence: frame rate, number of frames, times.

    {"format": "gs4d sequence", "version": 1, "frames": 48, "fps": 24.0, "interpolated": true, "seconds": [0.0, 0.05, …]}

`seconds` is given only where frames are not evenly spaced from 0. `interpolated` is false where equal rows of the files are not
the same Gaussian, so that each frame is held until the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from ...errors import InputError
from ...files.jsonfile import read_json, write_json

NAME = "sequence.json"
FORMAT = "gs4d sequence"
# bytes; a time of 20 characters for each of 20,000 frames is a tenth of it
LARGEST = 4 << 20
# of the time between two frames: what evenly spaced frames may differ by
UNEVEN = 1e-4
# frames per second that a file may name
FASTEST = 10_000.0


@dataclass(frozen=True)
class Description:
    """What is known of a sequence beyond its files.

    Args:
        frames: Their number.
        fps: Frames per second.
        interpolated: Whether frames are interpolated, because equal rows of the files are the same Gaussian.
        seconds: The time of each frame; empty where frame i is at i / fps.
    """

    frames: int
    fps: float
    interpolated: bool = True
    seconds: tuple[float, ...] = ()

    @classmethod
    def of(cls, seconds: list[float], interpolated: bool = True) -> Self:
        """For frames at ascending times in seconds; the rate of uneven ones is their mean."""
        last = len(seconds) - 1
        if last < 1 or seconds[-1] <= seconds[0]:
            return cls(len(seconds), 0.0, interpolated)
        step = (seconds[-1] - seconds[0]) / last
        # 29.97000000000001 is what the times' rounding leaves of 29.97
        fps = float(f"{1 / step:.12g}")
        is_even = all(abs(t - i / fps) <= UNEVEN * step for i, t in enumerate(seconds))
        return cls(len(seconds), fps, interpolated, () if is_even else tuple(seconds))

    def text(self) -> str:
        """For people: how many frames, and how fast they play."""
        if not self.fps:
            return f"{self.frames} frame{'s' if self.frames != 1 else ''}"
        about = "about " if self.seconds else ""
        return f"{self.frames} frames, {about}{self.fps:.5g} per second"

    def write(self, path: Path) -> None:
        """Write it to a file. Raises InputError where that is not possible."""
        data: dict[str, Any] = {"format": FORMAT, "version": 1, "frames": self.frames}
        if self.fps:
            data["fps"] = self.fps
        data["interpolated"] = self.interpolated
        if self.seconds:
            data["seconds"] = list(self.seconds)
        write_json(path, data)


def read_description(path: Path, name: str) -> Description:
    """Read a `sequence.json`, called `name` in messages.

    Files of other programs may have `fps` alone.

    Raises:
        InputError: It is not JSON, or a value in it is none that it can have.
    """
    data = read_json(path, name)
    frames, fps, seconds = data.get("frames", 0), data.get("fps", 0), data.get("seconds", [])
    if not _is_number(fps) or not (fps == 0 or 1e-6 <= fps <= FASTEST):
        raise InputError(
            "IO-105",
            f"{name}: 'fps' is not a frame rate between 0 and {FASTEST:g}. Correct it, or remove the file and set the rate.",
        )
    ascends = isinstance(seconds, list) and all(map(_is_number, seconds))
    ascends = ascends and all(a < b for a, b in pairwise(seconds))
    if not isinstance(frames, int) or frames < 0 or not ascends or (seconds and len(seconds) != frames):
        raise InputError(
            "IO-106",
            f"{name}: 'seconds' is not one ascending time for each of its 'frames'. Correct it, or remove the file and set the "
            "frame rate.",
        )
    return Description(frames, float(fps), data.get("interpolated") is not False, tuple(map(float, seconds)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
