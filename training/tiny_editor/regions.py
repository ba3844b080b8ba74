"""Edits beyond a pixel's color, with an exact truth: a part by its meaning, a pattern on the surface, what faces up.

Such an edit needs layers beside the image: for each pixel, the shares (0..1) of the subject that belong to a part, that
a pattern covers, or that face up. Within a layer, the edit is a fixed function of the pixel's color, as in `edits.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
LAYERS = ("skin", "lips", "hair", "brow", "paint", "lines", "spots", "up", "shirt")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(x: FloatArray) -> FloatArray:
    """(..., 3) sRGB in 0..1 to (..., 1)."""
    return (x @ _LUMA)[..., None]


def ramp(*stops: tuple[float, float, float]) -> Callable[[FloatArray], FloatArray]:
    """Colors by luminance: the three stops at 0, 1/2 and 1."""
    a, b, c = (np.array(s, np.float32) for s in stops)

    def edit(x: FloatArray) -> FloatArray:
        y = luminance(x)
        return np.where(y < 0.5, a + (b - a) * (2 * y), b + (c - b) * (2 * y - 1))

    return edit


COLORS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "red": ramp((0.18, 0.0, 0.0), (0.85, 0.08, 0.06), (1.0, 0.62, 0.58)),
    "green": ramp((0.0, 0.14, 0.02), (0.08, 0.65, 0.14), (0.65, 1.0, 0.66)),
    "blue": ramp((0.0, 0.02, 0.22), (0.08, 0.24, 0.88), (0.60, 0.74, 1.0)),
}
"""The colors of the whole-subject edits, which parts take as well."""
_GRAY = ramp((0.34, 0.34, 0.35), (0.68, 0.68, 0.70), (0.97, 0.97, 0.98))
_SNOW = ramp((0.72, 0.76, 0.83), (0.90, 0.92, 0.96), (1.0, 1.0, 1.0))
_SPOT = np.array([0.62, 0.50, 0.42], np.float32)
_LINE = np.array([0.58, 0.50, 0.47], np.float32)

PART_EDITS: dict[str, tuple[str, str]] = {
    "green_skin": ("skin", "green"), "red_lips": ("lips", "red"), "blue_hair": ("hair", "blue"),
    "green_shirt": ("shirt", "green"),
    "red_skin": ("skin", "red"), "blue_skin": ("skin", "blue"), "red_hair": ("hair", "red"),
    "green_hair": ("hair", "green"), "red_shirt": ("shirt", "red"), "blue_shirt": ("shirt", "blue"),
}  # fmt: skip
"""Edit → part and color."""
_NEEDED: dict[str, tuple[str, ...]] = {
    **{name: (part,) for name, (part, _) in PART_EDITS.items()},
    "face_paint": ("paint",),
    "older": ("lines", "brow"),
    "snow": ("up",),
}
NAMES = tuple(_NEEDED)
MAIN = ("green_skin", "red_lips", "blue_hair", "face_paint", "older", "green_shirt", "snow")


def needed(name: str) -> tuple[str, ...]:
    """The layers without which the edit changes nothing worth mentioning."""
    return _NEEDED[name]


def covered(name: str, layers: FloatArray, alpha: FloatArray) -> float:
    """The share of the image (0..1) that the edit changes. layers (H, W, len(LAYERS)), alpha (H, W)."""
    chosen = [LAYERS.index(layer) for layer in _NEEDED[name]]
    return float((layers[..., chosen].max(-1) * alpha).mean())


def apply(name: str, color: FloatArray, layers: FloatArray) -> FloatArray:
    """The edited color of the subject, not clipped. color (H, W, 3) sRGB 0..1, layers (H, W, len(LAYERS)) 0..1."""

    def share(layer: str) -> FloatArray:
        return layers[..., LAYERS.index(layer), None]

    if name in PART_EDITS:
        part, word = PART_EDITS[name]
        return color + share(part) * (COLORS[word](color) - color)
    if name == "face_paint":
        return color + share("paint") * (COLORS["blue"](color) - color)
    if name == "snow":
        return color + share("up") * (_SNOW(color) - color)
    if name == "older":
        gray = np.clip(share("hair") + share("brow"), 0, 1)
        out = color + gray * (_GRAY(color) - color)
        return out * (1 - share("lines") * (1 - _LINE)) * (1 - share("spots") * (1 - _SPOT))
    raise KeyError(name)


def facing_up(height: FloatArray) -> FloatArray:
    """How much snow lies on a surface (0..1) by the upward component of its unit normal."""
    t = np.clip((height - 0.15) / 0.4, 0, 1)
    return t * t * (3 - 2 * t)


# Patterns in the coordinates of the mean ICT-FaceKit head in centimeters: x the subject's left, y up, z forward.
_WRINKLES = (
    ((-4.0, 7.3, 9.8), (-2.0, 7.55, 10.6), (0.0, 7.4, 10.9), (2.0, 7.55, 10.6), (4.0, 7.3, 9.8)),
    ((-3.6, 8.5, 9.4), (-1.8, 8.75, 10.2), (0.0, 8.6, 10.5), (1.8, 8.75, 10.2), (3.6, 8.5, 9.4)),
    ((-1.7, -0.4, 10.6), (-2.7, -1.6, 10.4), (-3.3, -3.2, 9.9), (-3.4, -4.6, 9.5)),
    ((-0.45, 4.6, 10.7), (-0.5, 6.2, 10.9)),
    ((-5.0, 3.7, 8.2), (-6.3, 4.4, 7.2)),
    ((-5.0, 3.2, 8.2), (-6.5, 3.2, 7.1)),
    ((-4.9, 2.7, 8.3), (-6.2, 2.0, 7.5)),
    ((-4.1, 1.9, 9.0), (-3.0, 1.5, 9.5), (-2.0, 1.7, 9.5)),
)
_SPOTS = (
    ((-5.0, -0.6, 8.4), 0.55), ((-6.2, 0.7, 6.8), 0.45), ((5.3, 0.2, 8.1), 0.6), ((6.0, -1.8, 6.9), 0.45),
    ((3.2, 7.9, 9.7), 0.5), ((-5.6, 6.6, 7.4), 0.55), ((5.9, 6.3, 7.2), 0.45), ((-1.4, 9.4, 9.9), 0.4),
)  # fmt: skip
_LINE_WIDTH = 0.26


def _from_line(q: FloatArray, knots: tuple[tuple[float, float, float], ...]) -> FloatArray:
    """Distance (N,) of points (N, 3) from a polyline, seen from the front: depth counts a fifth."""
    stretch = np.array([1.0, 1.0, 0.2])
    best = np.full(len(q), np.inf)
    for first, second in itertools.pairwise(knots):
        a, b = np.array(first), np.array(second)
        along = np.clip((q - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        best = np.minimum(best, np.linalg.norm((q - a - along[:, None] * (b - a)) * stretch, axis=1))
    return best


def patterns(q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Face paint, wrinkles and spots (N,), 0 or 1 each, at points (N, 3) of the mean head in centimeters."""
    x, y, z = np.abs(q[:, 0]), q[:, 1], q[:, 2]
    front = z > 4.0
    band = (x < 6.6) & (y > 0.1 + 0.05 * x) & (y < 1.9 + 0.05 * x)
    forehead = (x < 0.8) & (y > 6.4)
    chin = (x < 0.8) & (y < -4.9) & (y > -8.2)
    paint = front & (band | forehead | chin)
    near = front & (np.abs(y - 2.5) < 8)
    lines, spots = np.zeros(len(q), bool), np.zeros(len(q), bool)
    # The face is symmetric, the spots are not.
    half = q[near] * np.array([-1.0, 1.0, 1.0])
    half[:, 0] = -np.abs(half[:, 0])
    lines[near] = np.min([_from_line(half, knots) for knots in _WRINKLES], axis=0) < _LINE_WIDTH / 2
    spots[near] = np.any(
        [np.linalg.norm(q[near] - np.array(center), axis=1) < radius for center, radius in _SPOTS], axis=0
    )
    return paint.astype(np.float32), lines.astype(np.float32), spots.astype(np.float32)


PART_IDS: dict[str, tuple[int, ...]] = {"skin": (1, 2), "hair": (3,), "brow": (4,), "lips": (5,)}
"""Parts by the ids of an image of regions: 1 skin, 2 neck, 3 hair, 4 brows, 5 lips."""


def layers_from_ids(
    region_ids: NDArray[np.integer], part_ids: dict[str, tuple[int, ...]] = PART_IDS
) -> NDArray[np.float32]:
    """Layers (H, W, len(LAYERS)) of the parts in an image of region ids (H, W); patterns and "up" stay 0."""
    layers = np.zeros((*region_ids.shape, len(LAYERS)), np.float32)
    for part, ids in part_ids.items():
        layers[..., LAYERS.index(part)] = np.isin(region_ids, ids)
    return layers


def true_edit(
    name: str,
    image: FloatArray,
    region_ids: NDArray[np.integer],
    alpha: FloatArray,
    part_ids: dict[str, tuple[int, ...]] = PART_IDS,
    background: float | FloatArray = 1.0,
) -> FloatArray:
    """The true edited image of a part edit.

    Args:
        name: One of PART_EDITS.
        image: [H, W, 3] sRGB in 0..1, over `background`.
        region_ids: [H, W] the region at each pixel's center, 0 for the background.
        alpha: [H, W] coverage of the subject in 0..1.
        part_ids: The ids of each part.
        background: What the image was composited over.

    Returns:
        [H, W, 3].
    """
    cover = alpha[..., None]
    # Where coverage is low, the subject's color cannot be separated from the mixture: use the mixed color.
    color = np.where(cover > 0.5, (image - (1 - cover) * background) / np.maximum(cover, 0.5), image)
    color = np.clip(color, 0, 1)
    edited = np.clip(apply(name, color, layers_from_ids(region_ids, part_ids)), 0, 1)
    return np.clip(image + cover * (edited - color), 0, 1)
