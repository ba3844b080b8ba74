"""Seconds and USD time codes."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import NamedTuple

# frames whose distances differ by no more than this part of them are evenly spaced
EVEN = 0.02
# of a frame or a rate: what is rounding of floating-point numbers
ROUNDING = 1e-6


class TimeCodes(NamedTuple):
    """The time codes of frames, counted from 0, and how many make a second."""

    codes: list[float]
    rate: float


def time_codes(seconds: list[float], rate: float | None = None) -> TimeCodes:
    """Time codes of frames, where a frame lasts one.

    Args:
        seconds: Times in ascending order; the first becomes 0.
        rate: Time codes per second; None takes that of the frames: evenly spaced ones get whole numbers.
    """
    if rate is None:
        rate = _rate(seconds)
    codes = [(t - seconds[0]) * rate for t in seconds]
    return TimeCodes([_rounded(code, ROUNDING) for code in codes], rate)


def _rate(seconds: list[float]) -> float:
    """Frames per second; of unevenly spaced ones, the most common rate."""
    spans = [after - before for before, after in pairwise(seconds)]
    if not spans:
        return 24.0
    mean = (seconds[-1] - seconds[0]) / len(spans)
    is_even = max(abs(span - mean) for span in spans) <= EVEN * mean
    rate = 1 / (mean if is_even else median(spans))
    return _rounded(rate, ROUNDING * rate)


def _rounded(number: float, within: float) -> float:
    """2.9999999 as 3."""
    return float(round(number)) if abs(number - round(number)) <= within else number
