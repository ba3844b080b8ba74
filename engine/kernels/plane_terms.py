"""Smoothness of planes and their distance from one, and the gradient. `losses/regularizers.py` has the readable twin.

The rows of a plane lie one after the other, channels together, so that one step along the height is one row in memory.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .simd import WIDTH, load, magnitude, select, splat, store

# numbers that are summed in the arrays' own type, before their sum joins the total
BLOCK = 2048


@part
def curvature(values, at, step):
    """Second difference along the height, of what lies one `step` and two behind `at`."""
    return load(values, at + 2 * step) - load(values, at + step) * 2.0 + load(values, at)


@part
def sign_of(lanes, size):
    """±size, 0 or NaN."""
    return select(lanes > 0.0, size, select(lanes >= 0.0, 0.0, select(lanes <= 0.0, -size, lanes)))


@kernel
def plane_terms(first, last, grids, places, weights, gradient, sums):
    """Planes `first` to `last`.

    grids: all planes, flat; places [P, 3]: where a plane starts, its rows and the numbers of one; weights [P, 2]: of the squared
    second differences and of |value - 1|, per number. Written: gradient, as grids, and sums [P], each plane's weighted terms.
    """
    order = np.arange(WIDTH).astype(gradient.dtype)
    scratch = np.zeros(WIDTH, gradient.dtype)
    for p in range(first, last):
        start, height, row = places[p]
        smoothness, l1 = weights[p]
        size = height * row
        inner = size - 2 * row if smoothness != 0 else 0
        values, at = grids, start
        if at + size + WIDTH > len(grids):
            # whole vectors would be read beyond the end
            values, at = np.zeros(size + WIDTH, gradient.dtype), 0
            # not by slices: their assignment takes two seconds to compile
            for i in range(size):
                values[i] = grids[start + i]
        # second differences, with zeros beyond the border: the operator's adjoint is then itself
        differences = np.zeros(size + 2 * row + 2 * WIDTH, gradient.dtype)
        total = 0.0
        for begin in range(0, inner, BLOCK):
            squares = splat(gradient, 0.0)
            for i in range(begin, min(begin + BLOCK, inner), WIDTH):
                inside = load(order, 0) <= float(inner - 1 - i)
                difference = select(inside, curvature(values, at + i, row), 0.0)
                store(differences, 2 * row + i, difference)
                squares = squares + difference * difference
            store(scratch, 0, squares)
            total += smoothness * scratch.sum()
        for begin in range(0, size, BLOCK):
            distances = splat(gradient, 0.0)
            for i in range(begin, min(begin + BLOCK, size), WIDTH):
                slope = curvature(differences, i, row) * (2 * smoothness)
                if l1 != 0:
                    above = load(values, at + i) - 1.0
                    slope = slope + sign_of(above, l1)
                    inside = load(order, 0) <= float(size - 1 - i)
                    distances = distances + select(inside, magnitude(above), 0.0)
                if i + WIDTH <= size:
                    store(gradient, start + i, slope)
                else:
                    # what lies behind may be another thread's
                    store(scratch, 0, slope)
                    for k in range(size - i):
                        gradient[start + i + k] = scratch[k]
            if l1 != 0:
                store(scratch, 0, distances)
                total += l1 * scratch.sum()
        sums[p] = total
