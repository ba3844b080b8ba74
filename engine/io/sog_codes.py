"""Values of a `.sog` file as numbers of a few representatives: codebooks of single values, and a palette of harmonics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sog import CODES

# bins of the values that a codebook is made of, and how often its codes are moved to the means of theirs
BINS, ROUNDS = 1 << 14, 20
# values that are looked at first
SEEN = 4096
Array = NDArray[Any]


def codebook(values: Array) -> tuple[Array, Array]:
    """256 values that stand for many, with little squared error (Lloyd 1982, on a histogram).

    Args:
        values: Any shape, finite.

    Returns:
        [256] float32 in rising order, and the number of each value's code (uint8, of the values' shape).
    """
    flat = values.reshape(-1).astype(np.float32)
    # a few settle it mostly, and sorting all takes long
    different = np.unique(flat[:SEEN])
    different = np.unique(flat) if len(different) <= CODES else different
    if len(different) <= CODES:
        codes = np.pad(different, (0, CODES - len(different)), mode="edge")
        return codes, np.searchsorted(different, values.astype(np.float32)).astype(np.uint8)
    counts, edges = np.histogram(flat, BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    # where the cube root of the density decides how close codes are, their error is least (Panter and Dite 1951)
    density = np.repeat(counts.reshape(CODES, -1).sum(axis=1), BINS // CODES)
    share = np.cumsum(np.cbrt(density))
    codes = np.interp((np.arange(CODES) + 0.5) / CODES * share[-1], share, middles)
    number, total = (np.concatenate([[0.0], np.cumsum(w)]) for w in (counts, counts * middles))
    for _ in range(ROUNDS):
        ends = np.searchsorted(middles, (codes[:-1] + codes[1:]) / 2)
        ends = np.concatenate([[0], ends, [BINS]])
        own, sums = np.diff(number[ends]), np.diff(total[ends])
        codes = np.where(own > 0, sums / np.maximum(own, 1), codes)
    codes = np.sort(codes).astype(np.float32)
    return codes, np.searchsorted((codes[:-1] + codes[1:]) / 2, values).astype(np.uint8)


def palette(values: Array, sets: int) -> tuple[Array, Array]:
    """Representatives of rows: the rows are halved at the median of the value that varies most, again and again.

    Median cut (Heckbert 1982) instead of k-means: for 100,000 rows and 65,536 sets, seconds instead of minutes.

    Args:
        values: [N, D].
        sets: The largest number of representatives.

    Returns:
        [S, D] float32 with S at most `sets`, and the number of each row's set [N].
    """
    count, values = len(values), values.astype(np.float32)
    order, starts = np.arange(count), np.zeros(1, np.int64)
    while 2 * len(starts) <= sets:
        sizes = np.diff(np.append(starts, count))
        if sizes.max() < 2:
            break
        rows = values[order]
        means = np.add.reduceat(rows, starts) / sizes[:, None].astype(np.float32)
        cell = np.repeat(np.arange(len(starts)), sizes)
        spread = np.add.reduceat(np.square(rows - means[cell]), starts)
        keys = rows[np.arange(count), spread.argmax(axis=1)[cell]]
        order = order[np.lexsort((keys, cell))]
        middles = (starts + (sizes + 1) // 2)[sizes > 1]
        starts = np.sort(np.concatenate([starts, middles]))
    sizes = np.diff(np.append(starts, count))
    labels = np.empty(count, np.int64)
    labels[order] = np.repeat(np.arange(len(starts)), sizes)
    return (np.add.reduceat(values[order], starts) / sizes[:, None]).astype(np.float32), labels
