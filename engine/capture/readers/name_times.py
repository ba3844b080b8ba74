"""Time stamps in the names of image files, told from frame numbers by their form, their size and how evenly they lie.

Read are seconds since 1970 (with a fraction, or as milliseconds, microseconds or nanoseconds), dates with a time of day,
times of day, decimal seconds, and smaller units counted from any start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ..pairing import SECOND, Stamps, period_of

# seconds since 1970 that are taken for a time: of 2001 to 2100, which all have ten digits
FIRST, LAST = 10**9, 4_102_444_800
# nanoseconds, and the digits of a fraction of a second
UNITS = {"milliseconds": (10**6, 3), "microseconds": (10**3, 6), "nanoseconds": (1, 9)}
# frames per second that a camera may have; those where the digits may be a counter; those that are usual
MOST_FPS, MOST_DOUBTFUL_FPS, USUAL_FPS = 2000.0, 300.0, 30.0
# where the digits may be a counter: how far, in frames, steps may be from whole ones, and how many of the frames must be there
UNEVEN, PRESENT = 0.25, 0.5
# steps between frame numbers are smaller
LARGE_STEP = 1000
# nanoseconds between images of a camera that moves
SLOWEST = 10 * SECOND
# how far a rate may be from the stated one to be the same, and to be meant at all
SAME_RATE, MEANT_RATE = 1.05, 4.0

# of several folders' files, without suffixes
Names = Sequence[Sequence[str]]
# whole seconds, and the digits that follow them
Instant = tuple[int, str]


@dataclass(frozen=True, eq=False)
class NameTimes:
    """The times in all names, in their order."""

    stamps: list[list[int]]  # nanoseconds
    unit: str  # how the digits were read, in words


@dataclass(frozen=True, eq=False)
class _Form:
    """One way to write times."""

    unit: str
    pattern: re.Pattern[str]
    instant: Callable[[re.Match[str]], Instant | None]
    is_sure: bool = False  # nothing but a time looks like this

    def find(self, name: str) -> list[Instant]:
        found = (self.instant(match) for match in self.pattern.finditer(name))
        return [instant for instant in found if instant is not None]


def _epoch(match: re.Match[str]) -> Instant | None:
    seconds = int(match[1])
    return (seconds, match[2] or "") if FIRST <= seconds <= LAST else None


def _date(match: re.Match[str]) -> Instant | None:
    year, _, month, day, hour, minute, second, digits = match.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        # February 30
        return None
    return round(at.timestamp()), digits or ""


_FORMS = (
    _Form(
        "dates",
        re.compile(
            r"(?<!\d)((?:19|20)\d\d)([\-_.]?)(\d\d)\2(\d\d)[\-_. T]*"
            r"(\d\d)[\-_.:h]?(\d\d)[\-_.:m]?(\d\d)(?:[\-_.,]?(\d{1,9}))?(?!\d)"
        ),
        _date,
    ),
    *(
        _Form(
            f"{unit} since 1970", re.compile(rf"(?<!\d)(\d{{10}})(\d{{{width}}})(?!\d)"), _epoch, is_sure=True
        )
        for unit, (_, width) in UNITS.items()
    ),
    _Form("seconds since 1970", re.compile(r"(?<!\d)(\d{10})\.(\d{1,20})(?!\d)"), _epoch, is_sure=True),
    _Form("seconds since 1970", re.compile(r"(?<!\d)(\d{10})[_\-](\d{1,9})(?!\d)"), _epoch),
    _Form("seconds since 1970", re.compile(r"(?<!\d)(\d{10})()(?!\d)"), _epoch),
    _Form(
        "times of day",
        re.compile(r"(?<!\d)([01]\d|2[0-3])([\-_.:])([0-5]\d)\2([0-5]\d)[\-_.,](\d{1,9})(?!\d)"),
        lambda m: (3600 * int(m[1]) + 60 * int(m[3]) + int(m[4]), m[5]),
    ),
    _Form("seconds", re.compile(r"^(\d{1,9})\.(\d{1,20})$"), lambda m: (int(m[1]), m[2])),
)


def read_times(names: Names, fps: float | None = None) -> NameTimes | None:
    """The times in the names of several folders' files; None where the digits are frame numbers.

    `fps` is the frame rate that the capture states, or None. Where several readings fit, the most even one is taken.
    """
    found: list[tuple[float, NameTimes]] = []
    for form in _FORMS:
        for instants in _positions([[form.find(name) for name in group] for group in names]):
            for stamps, step in _readings(instants):
                if _is_time(stamps, step, form.is_sure, fps):
                    read = NameTimes([s.tolist() for s in stamps], form.unit)
                    found.append((round(_unevenness(stamps), 1), read))
    if found:
        return min(found, key=lambda item: item[0])[1]
    return _counted(names, fps)


def _positions(instants: list[list[list[Instant]]]) -> Iterator[list[list[Instant]]]:
    """One time of each name, the last ones first, where all names have it and no two of a folder share it."""
    count = min((len(found) for group in instants for found in group), default=0)
    for at in range(1, count + 1):
        chosen = [[found[-at] for found in group] for group in instants]
        if all(len(set(group)) == len(group) for group in chosen):
            yield chosen


def _readings(instants: list[list[Instant]]) -> Iterator[tuple[list[Stamps], int]]:
    """Nanoseconds, and those of the last digit: digits after the seconds as decimals, or as a number without its zeros."""
    widths = {len(digits) for group in instants for _, digits in group}
    longest = min(max(widths), 9)

    def stamps(size: int | None) -> list[Stamps]:
        def one(instant: Instant) -> int:
            seconds, digits = instant
            part = int(digits[:9].ljust(9, "0")) if size is None else int(digits or 0) * size
            return seconds * SECOND + part

        return [np.array([one(instant) for instant in group], dtype=np.int64) for group in instants]

    yield stamps(None), 10 ** (9 - longest)
    if len(widths) > 1 and max(widths) <= 9:
        size = next(size for size, width in UNITS.values() if width >= longest)
        yield stamps(size), size


def _steps(stamps: Sequence[Stamps]) -> Stamps:
    """The steps [N] between times of one folder, over all of them."""
    return np.concatenate([np.diff(np.sort(group)) for group in stamps])


def _unevenness(stamps: Sequence[Stamps]) -> float:
    """How far, in frames, steps are from whole numbers of frames, on average."""
    steps, period = _steps(stamps), period_of([np.sort(group) for group in stamps])
    if not period:
        return 0.0
    frames = steps / period
    return float(np.abs(frames - np.maximum(1, frames.round())).mean())


def _present(stamps: Sequence[Stamps]) -> float:
    """The share of frames that are there, of those that fit between the first and the last."""
    period = period_of([np.sort(group) for group in stamps])
    counts = sum(len(group) - 1 for group in stamps)
    spans = sum(int(np.ptp(group)) for group in stamps)
    return counts * period / spans if spans else 1.0


def _is_time(stamps: list[Stamps], step: int, is_sure: bool, fps: float | None) -> bool:
    """Whether the times are those of a camera, rather than a counter or a date that happens to be there."""
    period = period_of([np.sort(group) for group in stamps])
    if not period:
        # one image of each camera: long numbers that are far apart are serial numbers, if they are not those of a moving one
        merged = [np.unique(np.concatenate(stamps))]
        if is_sure and int(np.ptp(merged[0])) < SECOND:
            return True
        is_slow = period_of(merged) > SLOWEST
        return len(merged[0]) > 2 and not is_slow and _is_time(merged, step, False, fps)
    if any(len(np.unique(group)) < len(group) for group in stamps):
        return False
    rate = SECOND / period
    # neighboring numbers count frames
    if rate > MOST_FPS or (step < SECOND and period < 2 * step):
        return False
    if is_sure:
        return True
    is_meant = fps is None or step < SECOND or max(fps / rate, rate / fps) < MEANT_RATE
    is_even = _unevenness(stamps) < UNEVEN and _present(stamps) >= PRESENT
    # a counter behind the time at which the recording began
    is_counter = len(np.unique(np.concatenate(stamps) // SECOND)) == 1 and not _has_jitter(stamps)
    return is_meant and (is_even or step == SECOND) and rate <= MOST_DOUBTFUL_FPS and not is_counter


def _counted(names: Names, fps: float | None) -> NameTimes | None:
    """Milliseconds to nanoseconds from any start, where no steps of frame numbers look like this."""
    runs = [[re.findall(r"\d+", name) for name in group] for group in names]
    count = min((len(found) for group in runs for found in group), default=0)
    for at in range(1, count + 1):
        numbers = [[int(found[-at][-18:]) for found in group] for group in runs]
        if any(len(set(group)) < len(group) for group in numbers):
            continue
        groups = [np.array(group, dtype=np.int64) for group in numbers]
        unit = _unit_of(groups, fps)
        if unit is not None:
            size, _ = UNITS[unit]
            return NameTimes([(group * size).tolist() for group in groups], unit)
    return None


def _unit_of(groups: list[Stamps], fps: float | None) -> str | None:
    """The unit in which numbers are times of a usual frame rate; None where they count frames."""
    step = period_of([np.sort(group) for group in groups])
    is_even = bool(step) and _unevenness(groups) < UNEVEN and _present(groups) >= PRESENT
    if not is_even or not (_has_jitter(groups) or (step >= LARGE_STEP and _differ(groups))):
        return None
    largest = max(int(group.max()) for group in groups)
    rates = {u: SECOND / (step * size) for u, (size, _) in UNITS.items() if largest * size < 2**62}
    stated = [u for u, rate in rates.items() if fps and max(fps / rate, rate / fps) < SAME_RATE]
    if stated:
        return stated[0]
    if step < LARGE_STEP:
        return None
    best = min(rates, key=lambda unit: abs(math.log(rates[unit] / USUAL_FPS)))
    return best if 0.5 <= rates[best] <= MOST_DOUBTFUL_FPS else None


def _has_jitter(groups: list[Stamps]) -> bool:
    """Whether steps are not all multiples of the smallest one, as steps of frame numbers are."""
    steps = _steps(groups)
    return len(steps) > 1 and bool((steps % steps.min()).any())


def _differ(groups: list[Stamps]) -> bool:
    """Whether the folders have few numbers in common, as times of separate clocks and cameras do."""
    counts = [len(group) for group in groups]
    return len(groups) > 1 and len(np.unique(np.concatenate(groups))) > 1.5 * max(counts)
