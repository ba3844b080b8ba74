"""Edits with an exact ground truth: a fixed function of each pixel's color, on the subject only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_LUMA = np.array([0.299, 0.587, 0.114])


def _ramp(
    low: tuple[float, ...], middle: tuple[float, ...], high: tuple[float, ...]
) -> Callable[[FloatArray], FloatArray]:
    a, b, c = np.array(low), np.array(middle), np.array(high)

    def edit(x: FloatArray) -> FloatArray:
        y = (x @ _LUMA)[..., None]
        return np.where(y < 0.5, a + (b - a) * (2 * y), b + (c - b) * (2 * y - 1))

    return edit


def _night(x: FloatArray) -> FloatArray:
    return (x @ _LUMA)[..., None] * np.array([0.11, 0.154, 0.3025]) + 0.1 * x + np.array([0.0, 0.01, 0.05])


EDITS: dict[str, tuple[str, Callable[[FloatArray], FloatArray]]] = {
    "none": ("leave it as it is", lambda x: x),
    "night": ("make it night", _night),
    "golden_hour": (
        "make it golden hour",
        lambda x: x * np.array([1.12, 0.86, 0.52]) + np.array([0.10, 0.04, 0.0]),
    ),
    "black_and_white": ("make it black and white", lambda x: np.repeat((x @ _LUMA)[..., None], 3, axis=-1)),
    "fog": ("make it foggy", lambda x: 0.45 * x + 0.55 * np.array([0.80, 0.83, 0.86])),
    "gold": ("turn it into a gold statue", _ramp((0.16, 0.08, 0.01), (0.78, 0.52, 0.12), (1.0, 0.92, 0.62))),
    "bronze": (
        "turn it into a bronze statue",
        _ramp((0.10, 0.05, 0.02), (0.50, 0.29, 0.12), (0.93, 0.74, 0.48)),
    ),
    "marble": (
        "turn it into a marble statue",
        _ramp((0.52, 0.53, 0.56), (0.80, 0.80, 0.80), (0.98, 0.97, 0.95)),
    ),
    "red": ("make it red", _ramp((0.18, 0.0, 0.0), (0.85, 0.08, 0.06), (1.0, 0.62, 0.58))),
    "green": ("make it green", _ramp((0.0, 0.14, 0.02), (0.08, 0.65, 0.14), (0.65, 1.0, 0.66))),
    "blue": ("make it blue", _ramp((0.0, 0.02, 0.22), (0.08, 0.24, 0.88), (0.60, 0.74, 1.0))),
}


def composite(
    colour: FloatArray, alpha: FloatArray, background: FloatArray, edit: str = "none"
) -> FloatArray:
    """alpha * clip(edit(color)) + (1 - alpha) * background; color sRGB (H, W, 3), alpha (H, W)."""
    edited = np.clip(EDITS[edit][1](colour), 0.0, 1.0)
    return alpha[..., None] * edited + (1.0 - alpha[..., None]) * background
