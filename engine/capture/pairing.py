"""Which frames of several cameras show the same instant, by the times at which they were taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]

SECOND = 10**9
# between frames of cameras that have one frame each, so that nothing says how fast they run
USUAL_PERIOD = SECOND // 30
# how well the offsets of a camera's frames agree (1 = exactly), from which they are one offset
STEADY = 0.7


@dataclass(frozen=True, eq=False)
class Pairing:
    """Frames of V views as moments, each an instant that at least one view shows."""

    times: Stamps  # [T] nanoseconds, ascending
    frames: list[dict[int, int]]  # of each view: moment → index of its frame
    period: int  # nanoseconds from one frame to the next
    lags: list[int]  # of each view: nanoseconds by which its frames come after their moments, as a rule

    def unused(self, counts: Sequence[int]) -> list[int]:
        """How many of each view's `counts` frames belong to no moment, because another one is closer."""
        return [count - len(frames) for count, frames in zip(counts, self.frames, strict=True)]


def period_of(views: Sequence[Stamps]) -> int:
    """Nanoseconds from one frame to the next, of the view with the densest frames; 0 where none has two frames."""
    found: list[int] = []
    for steps in (np.diff(view) for view in views if len(view) > 1):
        middle = float(np.median(steps))
        # the mean of steps of one frame, since stamps may be rounded to milliseconds
        single = steps[(steps > 0.5 * middle) & (steps < 1.5 * middle)]
        found.append(round(float(single.mean())) if len(single) else round(middle))
    return min(found, default=0)


def nearest(times: Stamps, stamps: Stamps) -> tuple[NDArray[np.intp], Stamps]:
    """For each of `stamps` [N], the index of the nearest of `times` [T], and how much later than that it is."""
    after = np.searchsorted(times, stamps).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    is_before = stamps - times[before] <= times[after] - stamps
    index = np.where(is_before, before, after)
    return index, stamps - times[index]


def pair(views: Sequence[Sequence[int]]) -> Pairing:
    """Pair the frames of several cameras by time.

    The view with the most frames gives the moments; where another view has a frame that is farther than half a frame
    from all of them, a moment is added. A view whose frames come later by a steady fraction of a frame stays paired with the
    same moments however its stamps are rounded.

    Args:
        views: Of each view, the times of its frames in nanoseconds, ascending.

    Returns:
        The moments; each frame belongs to the nearest one within half a frame.
    """
    stamps = [np.asarray(view, dtype=np.int64) for view in views]
    period = period_of(stamps) or USUAL_PERIOD
    order = sorted((v for v in range(len(stamps)) if len(stamps[v])), key=lambda v: -len(stamps[v]))
    times = stamps[order[0]] if order else np.zeros(0, np.int64)
    lags = [0] * len(stamps)
    for v in order[1:]:
        lags[v] = _lag(times, stamps[v], period)
        _, late = nearest(times, stamps[v] - lags[v])
        times = np.union1d(times, (stamps[v] - lags[v])[2 * np.abs(late) > period])
    frames = [_assigned(times, s - lag, period) for s, lag in zip(stamps, lags, strict=True)]
    return Pairing(times, frames, period, lags)


def matched(wanted: Iterable[int], given: Iterable[int]) -> dict[int, int]:
    """For each of the times `wanted`, the nearest of the times `given` within half a frame, where there is one."""
    times, stamps = np.array(sorted(given), dtype=np.int64), np.array(sorted(wanted), dtype=np.int64)
    if not len(times) or not len(stamps):
        return {}
    period = period_of([stamps]) or USUAL_PERIOD
    index, late = nearest(times, stamps)
    close = 2 * np.abs(late) <= period
    return dict(zip(stamps[close].tolist(), times[index[close]].tolist(), strict=True))


def _lag(times: Stamps, stamps: Stamps, period: int) -> int:
    """By how much `stamps` come after the nearest of `times`, where they all agree on it; else 0."""
    _, late = nearest(times, stamps)
    late = late[2 * np.abs(late) <= period * 1.1]
    if not len(late):
        return 0
    # lags of nearly half a frame jump between its two ends, which are one place on a circle
    mean = np.exp(2j * math.pi * late / period).mean()
    return round(float(np.angle(mean)) * period / (2 * math.pi)) if abs(mean) > STEADY else 0


def _assigned(times: Stamps, stamps: Stamps, period: int) -> dict[int, int]:
    """Moment → frame; where two frames are nearest to one moment, the closer one has it."""
    found: dict[int, int] = {}
    if not len(stamps):
        return found
    index, late = nearest(times, stamps)
    for frame in np.argsort(np.abs(late), kind="stable").tolist():
        if 2 * abs(int(late[frame])) <= period:
            found.setdefault(int(index[frame]), frame)
    return dict(sorted(found.items()))
