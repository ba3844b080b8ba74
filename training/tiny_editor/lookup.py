"""The best look-up table of colors for an edit: what can be reached without knowing what a pixel shows.

A table gives each color of the image one edited color, on a lattice with trilinear interpolation, as in color grading.
`fit` takes pixels before and after an exact edit; an edit of a part has no table that reaches its truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

FloatArray = NDArray[np.floating]
CELLS = 33
ROUNDS = 8


def _corners(x: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """The eight lattice points around each color (N, 8), flat, and their trilinear weights (N, 8)."""
    place = np.clip(x, 0, 1) * (CELLS - 1)
    low = np.minimum(place.astype(np.int64), CELLS - 2)
    part = place - low
    index, weight = [], []
    for k in range(8):
        step = np.array([k >> 2 & 1, k >> 1 & 1, k & 1])
        index.append(np.ravel_multi_index(tuple((low + step).T), (CELLS,) * 3))
        weight.append(np.prod(np.where(step, part, 1 - part), axis=1))
    return np.stack(index, 1), np.stack(weight, 1)


def fit(before: FloatArray, after: FloatArray) -> FloatArray:
    """The table (CELLS, CELLS, CELLS, 3) of color changes with the least squared error; empty cells take the nearest.

    Args:
        before: [N, 3] colors in 0..1.
        after: [N, 3] the same pixels edited.
    """
    index, weight = _corners(before)
    change = after - before
    size = CELLS**3
    total = np.bincount(index.ravel(), weight.ravel(), size)
    table = np.zeros((size, 3))
    # Landweber's iteration with one step width for each lattice point: a least-squares fit without a large system.
    for _ in range(ROUNDS):
        for channel in range(3):
            rest = change[:, channel] - (table[index, channel] * weight).sum(1)
            table[:, channel] += np.bincount(
                index.ravel(), (weight * rest[:, None]).ravel(), size
            ) / np.maximum(total, 1e-9)
    whole = table.reshape(CELLS, CELLS, CELLS, 3)
    empty = (total < 1e-6).reshape(CELLS, CELLS, CELLS)
    if empty.any() and not empty.all():
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        whole = whole[tuple(nearest)]
    return whole


def apply(table: FloatArray, image: FloatArray) -> FloatArray:
    """The edited image [..., 3], in 0..1."""
    places = np.clip(image, 0, 1).reshape(-1, 3).T * (CELLS - 1)
    change = np.stack([map_coordinates(table[..., c], places, order=1, mode="nearest") for c in range(3)], 1)
    return np.clip(image + change.reshape(image.shape), 0, 1)


def best(before: FloatArray, after: FloatArray) -> FloatArray:
    """`before` through the best table for this very pair of images [H, W, 3]."""
    return apply(fit(before.reshape(-1, 3), after.reshape(-1, 3)), before)
