"""Saturated colors in fields, to see what a video makes of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 3, 4
COLORS = np.array(
    [
        [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255],
        [255, 255, 255], [0, 0, 0], [128, 128, 128], [200, 90, 40], [40, 160, 70], [30, 60, 200],
    ],
    np.uint8,
)  # fmt: skip
# luma weights of red and blue by matrix coefficients (H.273 numbers), from BT.709, BT.601 (twice) and BT.2020
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def chart(width: int, height: int) -> NDArray[np.uint8]:
    """`COLORS` in three rows of four fields, [H, W, 3]."""
    image = np.zeros((height, width, 3), np.uint8)
    for i, (x, y) in enumerate(middles(width, height)):
        high, wide = height // ROWS // 2, width // COLUMNS // 2
        image[y - high : y + high + 1, x - wide : x + wide + 1] = COLORS[i]
    return image


def middles(width: int, height: int) -> list[tuple[int, int]]:
    """(x, y) of the middle of each field."""
    return [
        ((2 * column + 1) * width // (2 * COLUMNS), (2 * row + 1) * height // (2 * ROWS))
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]


def fields(image: NDArray[Any]) -> NDArray[np.float64]:
    """The colors in the middle of the fields, [12, 3]."""
    return np.array([image[y, x] for x, y in middles(image.shape[1], image.shape[0])], float)


def to_planes(image: NDArray[Any], matrix: int, is_full: bool) -> NDArray[np.uint8]:
    """8-bit RGB as Y, Cb and Cr [3, H, W] without subsampling, by the formulas of H.273 §8.3."""
    red, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(image / 255, -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - luma) / (2 * (1 - blue)), (r - luma) / (2 * (1 - red))
    scaled = (255 * luma, 255 * cb + 128, 255 * cr + 128)
    if not is_full:
        scaled = (219 * luma + 16, 224 * cb + 128, 224 * cr + 128)
    return np.stack(scaled).round().clip(0, 255).astype(np.uint8)


def to_rgb(frame: Any, matrix: int) -> NDArray[np.float64]:
    """A PyAV frame in yuv420p and limited range as RGB [H, W, 3] in 0..255, by the same formulas."""
    height, width = frame.height, frame.width
    planes = [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]
    y = (planes[0] - 16.0) / 219
    cb, cr = (np.kron((plane - 128.0) / 224, np.ones((2, 2)))[:height, :width] for plane in planes[1:])
    red, blue = WEIGHTS[matrix]
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return (255 * np.stack([r, g, b], axis=-1)).clip(0, 255)
