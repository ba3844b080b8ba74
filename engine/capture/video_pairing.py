"""Videos of several cameras, paired by the times of their frames where their numbers do not tell which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..wording import printable
from .pairing import SECOND, Pairing, Stamps, findings, pair, period_of

# a step that is so many times the usual one leaves a frame out
LEFT_OUT = 1.5


def pair_videos(videos: Mapping[str, Sequence[int]], warnings: list[str]) -> Pairing | None:
    """Which frames of several videos show the same instant.

    Args:
        videos: Name of each video, and the times of its frames in nanoseconds.
        warnings: Gets sentences about frames that are missing and cameras that are offset.

    Returns:
        The frames of each video by moment, without the moments at the start and end that less than half of the videos show;
        None where frames of one number are less than half a frame apart, all along videos of constant rate.
    """
    stamps = [np.asarray(times, dtype=np.int64) for times in videos.values()]
    if any(len(s) > 1 and int(np.diff(s).min()) <= 0 for s in stamps):
        # times that repeat say nothing
        return None
    stamps = _with_one_clock([*videos], stamps, warnings)
    if _are_numbers_times(stamps):
        return None
    whole = pair([s.tolist() for s in stamps])
    paired = _without_ends(whole)
    left = len(whole.times) - len(paired.times)
    if left:
        warnings.append(
            f"{left} frames at the start or end are shown by less than half of the videos; they are not used. Check that "
            "all cameras ran together."
        )
    warnings += findings([*videos], [s.tolist() for s in stamps], paired)
    return paired


def _with_one_clock(names: list[str], stamps: list[Stamps], warnings: list[str]) -> list[Stamps]:
    """Videos whose times do not overlap with those of the longest one start with it."""
    main = max(range(len(stamps)), key=lambda v: len(stamps[v]))
    first, last = int(stamps[main][0]), int(stamps[main][-1])
    apart = [v for v, s in enumerate(stamps) if int(s[0]) > last or int(s[-1]) < first]
    # one frame alone may well be of another time
    apart = [v for v in apart if len(stamps[v]) > 1 and len(stamps[main]) > 1]
    if apart:
        listed = ", ".join(
            f"{printable(names[v])} ({(stamps[v][0] - first) / SECOND:+.3f} s)" for v in apart[:6]
        )
        warnings.append(
            f"The times in the videos do not overlap with those of {printable(names[main])}: {listed}. Their first frames are "
            "taken for one instant; check that all cameras started together."
        )
    return [s - s[0] + first if v in apart else s for v, s in enumerate(stamps)]


def _are_numbers_times(stamps: list[Stamps]) -> bool:
    """Whether frames of one number belong together and follow each other at a constant rate."""
    period, common = period_of(stamps), min(map(len, stamps))
    heads = np.stack([s[:common] for s in stamps])
    if 2 * int(np.ptp(heads, axis=0).max()) > period:
        return not period
    for s in stamps:
        even = s[0] + np.arange(len(s)) * ((s[-1] - s[0]) / max(len(s) - 1, 1))
        steps = np.diff(s)
        if len(steps) and (steps.max() > LEFT_OUT * np.median(steps) or 2 * np.abs(s - even).max() > period):
            return False
    return True


def _without_ends(paired: Pairing) -> Pairing:
    """Without the moments before and after those that at least half of the videos show."""
    counts = np.zeros(len(paired.times), dtype=np.int64)
    for frames in paired.frames:
        counts[list(frames)] += 1
    shared = np.flatnonzero(2 * counts >= len(paired.frames))
    if not len(shared):
        return paired
    first, last = int(shared[0]), int(shared[-1])
    frames = [{m - first: n for m, n in view.items() if first <= m <= last} for view in paired.frames]
    return replace(paired, times=paired.times[first : last + 1], frames=frames)
