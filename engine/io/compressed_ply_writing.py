"""Gaussians of one frame as PlayCanvas' compressed `.ply`: writing (`compressed_ply` has the layout, and reads it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.atomic import write_atomically
from ..scene import Gaussians, harmonics
from .compressed_ply import PACKED, SH_RANGE, SHARED
from .writable import writable

# log scales that the format's readers expect
LOG_SCALES = 20.0
KINDS = ("", "scale_", "color")
Words = NDArray[np.uint32]
Array = NDArray[Any]


def write_compressed_ply(gaussians: Gaussians, path: Path | str) -> Path:
    """Write the Gaussians of one frame, atomically. Ranges are shared by 256 in a row: neighbors in space lose the least.

    Args:
        gaussians: N Gaussians.
        path: The .ply file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: A value is not finite, or the file cannot be written.
    """
    path = Path(path)
    g = writable(gaussians, path.name).map(lambda t: t.double())
    count, bases = len(g), g.sh.shape[1]
    values = (
        g.means.numpy(),
        g.log_scales.clamp(-LOG_SCALES, LOG_SCALES).numpy(),
        (g.sh[:, 0] * harmonics.C0 + 0.5).numpy(),
    )
    ranges = [_ranges(v) for v in values]
    position, scale, color = (_parts(v, *r) for v, r in zip(values, ranges, strict=True))
    rgba = np.concatenate([color, g.logit_opacities.sigmoid().numpy()[:, None]], axis=1)
    words = [_three(position), _smallest_three(g.activated().quats.numpy()), _three(scale), _bytes(rgba)]
    rest = g.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (bases - 1)).numpy()
    # a byte stands for the middle of its step
    packed = np.floor((rest / SH_RANGE + 0.5) * 256).clip(0, 255).astype(np.uint8)
    chunks = np.concatenate([part for bounds in ranges for part in bounds], axis=1).astype("<f4")
    with write_atomically(path) as partial, open(partial, "wb") as file:
        file.write(_header(count, len(chunks), packed.shape[1]))
        file.write(chunks.tobytes())
        file.write(np.stack(words, axis=1).astype("<u4").tobytes())
        file.write(packed.tobytes())
    return path


def _header(count: int, chunks: int, rest: int) -> bytes:
    axes = {"": "xyz", "scale_": "xyz", "color": "rgb"}
    names = [
        f"{bound}_{'' if kind == 'color' else kind}{axis}"
        for kind in KINDS
        for bound in ("min", "max")
        for axis in axes[kind]
    ]
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {chunks}"]
    lines += [f"property float {name}" for name in names]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in PACKED)]
    if rest:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _ranges(values: Array) -> tuple[Array, Array]:
    """Smallest and largest values [chunks, 3] in float32, so that no value lies outside them."""
    starts = np.arange(0, len(values), SHARED)
    if not len(starts):
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
    low = np.minimum.reduceat(values, starts).astype(np.float32)
    high = np.maximum.reduceat(values, starts).astype(np.float32)
    return low, high


def _parts(values: Array, low: Array, high: Array) -> Array:
    """[N, 3] in 0..1 of the ranges of the values' chunks."""
    own = np.arange(len(values)) // SHARED
    size = (high.astype(np.float64) - low)[own]
    return ((values - low[own]) / np.where(size > 0, size, 1)).clip(0, 1)


def _three(parts: Array) -> Words:
    """11, 10 and 11 bits."""
    x, y, z = (np.rint(parts[:, i] * most).astype(np.uint32) for i, most in enumerate((2047, 1023, 2047)))
    return x << np.uint32(21) | y << np.uint32(11) | z


def _bytes(parts: Array) -> Words:
    r, g, b, a = np.rint(parts.clip(0, 1) * 255).astype(np.uint32).T
    return r << np.uint32(24) | g << np.uint32(16) | b << np.uint32(8) | a


def _smallest_three(quats: Array) -> Words:
    """Which part of wxyz is the largest in 2 bits, and the others in order in 10 each, in -√½..√½."""
    largest = np.abs(quats).argmax(axis=1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1.0, 1.0)
    packed = largest.astype(np.uint32)
    for axis in range(4):
        code = np.rint((quats[:, axis] / 2**0.5 + 0.5) * 1023).clip(0, 1023).astype(np.uint32)
        packed = np.where(largest == axis, packed, packed << np.uint32(10) | code)
    return packed
