"""Depth maps of captures: gray images or NumPy arrays of the depth along the viewing axis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.images import read_gray
from ..files.npyfile import read_numbers

# world units per stored unit, where a file does not say it: millimeters in meters
UNIT = 1e-3


@dataclass(frozen=True)
class DepthFile:
    """One depth map; `name` is for messages, `unit` is in world units per stored unit."""

    path: Path
    name: str
    unit: float = UNIT


def read_depth(file: DepthFile, size: tuple[int, int]) -> NDArray[np.float32]:
    """A depth map at another size, by the nearest pixel.

    Args:
        file: A gray image of 8, 16 or 32 bits, or an .npy of [H, W] numbers.
        size: (width, height) of the result.

    Returns:
        [H, W] in world units; 0 where the depth is unknown, not finite or not above 0.

    Raises:
        InputError: The file is missing, damaged or not of one channel.
    """
    if file.path.suffix.lower() == ".npy":
        values = read_numbers(file.path, file.name).squeeze()
        if values.ndim != 2 or not values.size:
            raise InputError(
                "CAP-166",
                f"{file.name} has shape {values.shape}; a depth map is [height, width]. Export it again.",
            )
    else:
        values = read_gray(file.path, file.name)
    width, height = size
    if abs(values.shape[1] * height - values.shape[0] * width) > 0.02 * values.shape[1] * height:
        raise InputError(
            "CAP-170",
            f"{file.name} has {values.shape[1]} × {values.shape[0]} pixels, but its image has the shape of {width} × {height}. "
            "Export it again, or delete it to train without it.",
        )
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
    depth = values[rows[:, None], columns].astype(np.float32) * np.float32(file.unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
