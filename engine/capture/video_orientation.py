"""How a decoded video frame is turned and mirrored to be shown, by the display matrix that comes with it."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

# sine of the angle up to which an axis counts as horizontal or vertical: 2 degrees
ALIGNED = 0.035


class Orientation(NamedTuple):
    """One of the eight ways to show an image: rows and columns are exchanged first, then it is mirrored."""

    swaps: bool = False  # rows become columns
    flips_x: bool = False  # left and right change places, as shown
    flips_y: bool = False  # top and bottom change places, as shown

    def exchanged(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) as shown of an image stored with `size`; and as stored of one shown with `size`."""
        return (size[1], size[0]) if self.swaps else size

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """An image [H, W, C] as stored → as shown, [W, H, C] where rows become columns."""
        if self == UPRIGHT:
            return image
        turned = image.swapaxes(0, 1) if self.swaps else image
        return np.ascontiguousarray(turned[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1])


UPRIGHT = Orientation()


def display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The nine numbers a b u c d v x y w of a frame (a PyAV VideoFrame), None where it carries none.

    A stored pixel (p, q) is shown at (a·p + c·q + x, b·p + d·q + y).

    Source: ISO/IEC 14496-12 §6.2.2; FFmpeg's libavutil/display.h. `VideoFrame.rotation` is an angle and cannot tell a
    mirrored frame from a turned one.
    """
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return struct.unpack("=9i", bytes(data))
    return None


def orientation(frame: Any, name: str) -> Orientation:
    """How `frame` is to be shown; InputError, naming the file `name`, if that is not a quarter turn.

    Ask for one frame of a file: PyAV's side data keep their frame, and it them, until garbage is collected.
    """
    matrix = display_matrix(frame)
    if matrix is None:
        return UPRIGHT
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    for x, y in ((a, b), (c, d)):
        if min(abs(x), abs(y)) > ALIGNED * max(abs(x), abs(y)):
            raise InputError(
                "CAP-260",
                f"{name} is to be shown turned by {math.degrees(math.atan2(b, a)):.0f}°, but only quarter turns and "
                "mirroring are supported. Export it upright.",
            )
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)
