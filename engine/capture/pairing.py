"""Which frames of several cameras show the same instant, by the times at which they were taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..wording import printable

Stamps = NDArray[np.int64]

SECOND = 10**9
# between frames where nothing says how fast the cameras run
USUAL_PERIOD = SECOND // 30
# between images of one instant, of cameras that were triggered together
TOGETHER = SECOND // 250
# in whole periods: half a frame, with some room for stamps that were rounded
HALF = 0.52
# how well the offsets of a camera's frames agree (1 = exactly), from which they are one offset
STEADY = 0.5
# offsets between cameras that are told, as a share of a frame
LEAST_OFFSET = 0.03


@dataclass(frozen=True, eq=False)
class Pairing:
    """Frames of V views as moments, each an instant that at least one view shows."""

    times: Stamps  # [T] nanoseconds, ascending
    frames: list[dict[int, int]]  # of each view: moment → index of its frame
    period: int  # nanoseconds from one frame to the next
    lags: list[int]  # of each view: nanoseconds by which its frames come after their moments, as a rule
    spread: int  # nanoseconds between the first and the last frame of one moment, at most
    unused: list[int]  # of each view: frames that belong to no moment, because another one is closer


def period_of(views: Sequence[Stamps]) -> int:
    """Nanoseconds from one frame to the next, of the view with the densest frames; 0 where none has two frames."""
    found: list[int] = []
    for steps in (np.diff(view) for view in views if len(view) > 1):
        middle = float(np.median(steps))
        # the mean of steps of one frame, since stamps may be rounded to milliseconds
        single = steps[(steps > 0.5 * middle) & (steps < 1.5 * middle)]
        found.append(round(float(single.mean())) if len(single) else round(middle))
    return min(found, default=0)


def _period_of_images(views: Sequence[Stamps]) -> int:
    """As `period_of`, where each view is one image, as those of moving cameras are: by the steps between all of them."""
    steps = np.diff(np.unique(np.concatenate(views))) if views else np.zeros(0, np.int64)
    steps = steps[steps > TOGETHER]
    return round(float(np.median(steps))) if len(steps) > 2 else USUAL_PERIOD


def room(stamps: Sequence[int]) -> int:
    """How many frames there are from the first to the last of `stamps`, those included that are missing."""
    times = np.asarray(stamps, dtype=np.int64)
    period = period_of([times])
    return round(int(times[-1] - times[0]) / period) + 1 if period > 0 else len(times)


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

    The densest view, of several the one with the most frames, gives the moments; where another view has a frame that is
    farther than half a frame from all of them, a moment is added. A view whose frames come later by a steady fraction of a
    frame stays paired with the same moments however its stamps are rounded.

    Args:
        views: Of each view, the times of its frames in nanoseconds, ascending.

    Returns:
        The moments; each frame belongs to the nearest one within half a frame.
    """
    stamps = [np.asarray(view, dtype=np.int64) for view in views]
    period = period_of(stamps) or _period_of_images(stamps)
    # rates up to a fifth apart are alike; a view of one frame comes last
    slower = [round(math.log(max((period_of([s]) or SECOND) / period, 1)) / math.log(1.2)) for s in stamps]
    order = sorted((v for v, s in enumerate(stamps) if len(s)), key=lambda v: (slower[v], -len(stamps[v])))
    times = stamps[order[0]] if order else np.zeros(0, np.int64)
    lags = [0] * len(stamps)
    for v in order[1:]:
        lags[v] = _lag(times, stamps[v], period)
        _, late = nearest(times, stamps[v] - lags[v])
        new = (stamps[v] - lags[v])[np.abs(late) > HALF * period]
        times = np.union1d(times, new) if len(new) else times
    frames = [_assigned(times, s - lag, period) for s, lag in zip(stamps, lags, strict=True)]
    unused = [len(s) - len(found) for s, found in zip(stamps, frames, strict=True)]
    return Pairing(times, frames, period, lags, _spread(len(times), stamps, frames), unused)


def _spread(count: int, stamps: Sequence[Stamps], frames: Sequence[dict[int, int]]) -> int:
    """Nanoseconds between the first and the last frame of one of `count` moments, at most."""
    limits = np.iinfo(np.int64)
    first, last = np.full(count, limits.max), np.full(count, limits.min)
    for view, found in zip(stamps, frames, strict=True):
        moments, shown = [*found], view[np.array([*found.values()], dtype=np.int64)]
        first[moments] = np.minimum(first[moments], shown)
        last[moments] = np.maximum(last[moments], shown)
    return int((last - first).max(initial=0))


def matched(wanted: Iterable[int], given: Iterable[int]) -> dict[int, int]:
    """For each of the times `wanted`, the nearest of the times `given` within half a frame, where there is one."""
    times, stamps = np.array(sorted(given), dtype=np.int64), np.array(sorted(wanted), dtype=np.int64)
    if not len(times) or not len(stamps):
        return {}
    period = period_of([stamps]) or USUAL_PERIOD
    index, late = nearest(times, stamps)
    close = np.abs(late) <= HALF * period
    return dict(zip(stamps[close].tolist(), times[index[close]].tolist(), strict=True))


def _lag(times: Stamps, stamps: Stamps, period: int) -> int:
    """By how much `stamps` come after the nearest of `times`, where they all agree on it; else 0."""
    _, late = nearest(times, stamps)
    late = late[np.abs(late) <= HALF * period]
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
        if abs(int(late[frame])) <= HALF * period:
            found.setdefault(int(index[frame]), frame)
    return dict(sorted(found.items()))


def findings(names: Sequence[str], stamps: Sequence[Sequence[int]], paired: Pairing) -> list[str]:
    """Sentences about views that lack frames, are offset against the others, or have frames that are not used."""
    made: list[str] = []
    count = len(paired.times)
    lacking = {v: count - len(frames) for v, frames in enumerate(paired.frames) if len(frames) < count}
    # of a moving camera, each view has an image of one frame
    if lacking and max(map(len, paired.frames)) > 1:
        listed = [
            f"{printable(names[v])} lacks {n} (first at {_first_gap(paired, v):.3f} s)"
            for v, n in lacking.items()
        ]
        made.append(
            f"Not every view has all {count} frames: {_shortened(listed)}. Missing frames are skipped."
        )
    starts = {v: s[0] for v, s in enumerate(stamps) if len(s) > 1}
    first = min(starts, key=lambda v: starts[v], default=0)
    late = [
        f"{printable(names[v])} starts {(start - starts[first]) / SECOND:.3f} s after {printable(names[first])}"
        for v, start in starts.items()
        if 2 * (start - starts[first]) > paired.period
    ]
    lags = sorted(paired.lags[v] for v in starts)
    usual = lags[(len(lags) - 1) // 2] if lags else 0
    late += [
        f"frames of {printable(names[v])} are {abs(lag - usual) / 1e6:.1f} ms {'late' if lag > usual else 'early'}"
        for v, lag in enumerate(paired.lags)
        if v in starts and abs(lag - usual) > LEAST_OFFSET * paired.period
    ]
    if late:
        made.append(
            f"The cameras are offset in time: {_shortened(late)}. Frames are paired with the nearest ones within half a "
            "frame; check that the clocks of the cameras agree."
        )
    listed = [f"{n} of {printable(names[v])}" for v, n in enumerate(paired.unused) if n]
    if listed:
        made.append(
            f"Some frames have no place among those of the other cameras and are not used: {_shortened(listed)}."
        )
    return made


def _first_gap(paired: Pairing, view: int) -> float:
    """Seconds at which the first frame is that a view lacks."""
    moment = next(m for m in range(len(paired.times)) if m not in paired.frames[view])
    return float(paired.times[moment] - paired.times[0]) / SECOND


def _shortened(listed: list[str], most: int = 6) -> str:
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
