"""Video files made or changed in code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

ONE = 1 << 16


def set_display_matrix(path: Path, axes: Sequence[float]) -> Path:
    """Writes the part (a, b, c, d) of a display matrix into the track of an .mp4 file, and returns its path."""
    a, b, c, d = (round(ONE * value) for value in axes)
    data = bytearray(path.read_bytes())
    # version and flags, then 36 bytes of times, duration, layer and volume
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path
