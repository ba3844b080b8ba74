"""Smoothness of planes and their distance from one, and the gradient. `losses/regularizers.py` has the readable twin.

The rows of a channel lie one after the other, so that one step along the height is one width in memory, whatever the width.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .simd import WIDTH, load, magnitude, select, splat, store


@part
def curvature(values, at, step):
    """Second difference along the height, of what lies one `step` and two behind `at`."""
    return load(values, at + 2 * step) - load(values, at + step) * 2.0 + load(values, at)


@part
def sign_of(lanes, size):
    """±size, 0 or NaN."""
    return select(lanes > 0.0, size, select(lanes >= 0.0, 0.0, select(lanes <= 0.0, -size, lanes)))


@kernel
def plane_terms(first, last, planes, shapes, weights, gradient, sums):
    """Planes `first` to `last`.

    planes: P flat arrays; shapes [P, 4]: where a plane's gradient starts, its channels, height and width; weights [P, 2]: of the
    squared second differences and of |value - 1|, per number. Written: gradient, of all planes one after the other, and sums [P],
    the weighted terms of each plane.
    """
    order = np.arange(WIDTH).astype(gradient.dtype)
    scratch = np.zeros(WIDTH, gradient.dtype)
    for p in range(first, last):
        plane = planes[p]
        start, channels, height, width = shapes[p]
        smoothness, l1 = weights[p]
        size = height * width
        inner = size - 2 * width if smoothness != 0 else 0
        # second differences, with zeros beyond the border: the operator's adjoint is then itself
        differences = np.zeros(size + 2 * width + 2 * WIDTH, gradient.dtype)
        total = 0.0
        for channel in range(channels):
            values, at = plane, channel * size
            if at + size + WIDTH > len(plane):
                # whole vectors would be read beyond the end
                values, at = np.zeros(size + WIDTH, gradient.dtype), 0
                values[:size] = plane[channel * size : channel * size + size]
            squares, distances = splat(gradient, 0.0), splat(gradient, 0.0)
            for i in range(0, inner, WIDTH):
                inside = load(order, 0) <= float(inner - 1 - i)
                difference = select(inside, curvature(values, at + i, width), 0.0)
                store(differences, 2 * width + i, difference)
                squares = squares + difference * difference
            into = start + channel * size
            for i in range(0, size, WIDTH):
                slope = curvature(differences, i, width) * (2 * smoothness)
                if l1 != 0:
                    above = load(values, at + i) - 1.0
                    slope = slope + sign_of(above, l1)
                    inside = load(order, 0) <= float(size - 1 - i)
                    distances = distances + select(inside, magnitude(above), 0.0)
                if i + WIDTH <= size:
                    store(gradient, into + i, slope)
                else:
                    # what lies behind may be another thread's
                    store(scratch, 0, slope)
                    for k in range(size - i):
                        gradient[into + i + k] = scratch[k]
            store(scratch, 0, squares)
            total += smoothness * scratch.sum()
            if l1 != 0:
                store(scratch, 0, distances)
                total += l1 * scratch.sum()
        sums[p] = total
