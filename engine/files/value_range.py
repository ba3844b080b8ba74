"""Which stored value is white, in images whose type does not say it: floating point, and whole numbers of 32 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Array = NDArray[Any]

# largest value, and what nearly all values (99 %) must reach for it to be white
RANGES = ((255.0, 16.0), (65535.0, 4096.0))
MOST = 99
# values that are sorted
SORTED = 4_000_000
# part of white that values may lie outside, where an image was sharpened or resampled
OUTSIDE = 0.05


def white_of_values(values: Array, name: str) -> float:
    """1, 255 or 65535: the value of white, by the values of an image or of several.

    Raises:
        InputError: Names `name` where the values fit none, or are not finite.
    """
    some = values.ravel()[:: 1 + values.size // SORTED]
    low, usual, high = (float(v) for v in (values.min(), np.percentile(some, MOST), values.max()))
    white: float | None = None
    if values.dtype.kind != "f":
        white = next((limit for limit, _ in RANGES if high <= limit), None)
    elif usual <= 1 + OUTSIDE:
        # what is brighter is clipped, as in a photo
        white = 1.0
    else:
        white = next((limit for limit, least in RANGES if usual >= least and high <= limit), None)
    if not np.isfinite([low, usual, high]).all() or white is None or low < -OUTSIDE * white:
        raise InputError(
            "FIL-133",
            f"{name} holds values from {low:.4g} to {high:.4g}, which do not say how bright white is. Export it as PNG, or with "
            "floating point from 0 to 1.",
        )
    return white
