"""L1 and SSIM of images, and their gradient, in one pass over the rows. `losses/color_loss.py` has the readable twin.

A row enters and is blurred along itself; five rows later the blurred rows around a row give its SSIM and the derivatives by the
blurred means, squares and products; another five rows later those, blurred in turn, give the row's gradient. Only the last
eleven rows of everything are kept, so that all of it stays in the cache, however large the image is. The three channels stay
interleaved: neighbors along a row are three numbers apart.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .simd import WIDTH, fma, load, magnitude, select, splat, store

# rows that the 11×11 window of SSIM spans
SPAN = 11
RADIUS = 5
# zeros on both sides of a row: at least RADIUS pixels
MARGIN = 16
# rows that a band reads beyond its own on either side
HALO = 2 * RADIUS


@part
def along(row, at, taps):
    """Blurred along the row: taps[5] is the middle one."""
    value = load(row, at) * taps[5]
    value = fma(load(row, at - 15) + load(row, at + 15), taps[0], value)
    value = fma(load(row, at - 12) + load(row, at + 12), taps[1], value)
    value = fma(load(row, at - 9) + load(row, at + 9), taps[2], value)
    value = fma(load(row, at - 6) + load(row, at + 6), taps[3], value)
    return fma(load(row, at - 3) + load(row, at + 3), taps[4], value)


@part
def across(rows, at, rings, taps):
    """Blurred over eleven rows, which start at `rings` in a ring of rows."""
    value = load(rows, at + rings[5]) * taps[5]
    value = fma(load(rows, at + rings[0]) + load(rows, at + rings[10]), taps[0], value)
    value = fma(load(rows, at + rings[1]) + load(rows, at + rings[9]), taps[1], value)
    value = fma(load(rows, at + rings[2]) + load(rows, at + rings[8]), taps[2], value)
    value = fma(load(rows, at + rings[3]) + load(rows, at + rings[7]), taps[3], value)
    return fma(load(rows, at + rings[4]) + load(rows, at + rings[6]), taps[4], value)


@part
def around(rings, row, pitch):
    """Where the rows `row` - 5 … `row` + 5 start in a ring."""
    for k in range(SPAN):
        rings[k] = (row - RADIUS + k + SPAN * 2) % SPAN * pitch


@part
def clear(row, first, last):
    for x in range(first, last):
        row[x] = 0


@kernel
def color_loss(first, last, bands, image, truth, taps, constants, weights, gradient, sums):
    """Bands `first` to `last` of `bands` per image.

    image, truth, gradient [B, H, 3·W] contiguous; taps [6]; constants C1, C2; weights of |d| and of SSIM per number, which the
    gradient gets; sums [B, H, 3]: of |d|, d² and SSIM in each row.
    """
    height, length = image.shape[1], image.shape[2]
    pitch = MARGIN + (length + WIDTH - 1) // WIDTH * WIDTH + MARGIN
    end = MARGIN + length
    ring = SPAN * pitch
    a, b = np.zeros(ring, image.dtype), np.zeros(ring, image.dtype)
    products = np.zeros(3 * pitch, image.dtype)
    # means of a, b, a², b², ab, blurred along the row; then the three derivatives
    means, slopes = np.zeros(5 * ring, image.dtype), np.zeros(3 * ring, image.dtype)
    row = np.zeros(3 * pitch, image.dtype)
    values = np.zeros(pitch, image.dtype)
    lanes = np.zeros(WIDTH, image.dtype)
    rings = np.zeros(SPAN, np.int64)
    zero = splat(image, 0.0)
    c1, c2 = splat(image, constants[0]), splat(image, constants[1])
    up, down = splat(image, weights[0]), splat(image, -weights[0])
    for band in range(first, last):
        n = band // bands
        part_of = band - n * bands
        top, bottom = height * part_of // bands, height * (part_of + 1) // bands
        for entering in range(top - HALO, bottom + HALO):
            slot = (entering + SPAN * 2) % SPAN * pitch
            if 0 <= entering < height:
                for x in range(length):
                    a[slot + MARGIN + x] = image[n, entering, x]
                    b[slot + MARGIN + x] = truth[n, entering, x]
                for x in range(MARGIN, end, WIDTH):
                    va, vb = load(a, slot + x), load(b, slot + x)
                    store(products, x, va * va)
                    store(products, pitch + x, vb * vb)
                    store(products, 2 * pitch + x, va * vb)
                for x in range(MARGIN, end, WIDTH):
                    store(means, slot + x, along(a, slot + x, taps))
                    store(means, ring + slot + x, along(b, slot + x, taps))
                    for k in range(3):
                        store(means, (2 + k) * ring + slot + x, along(products, k * pitch + x, taps))
            else:
                for k in range(5):
                    clear(means, k * ring + slot, k * ring + slot + pitch)
            middle = entering - RADIUS
            if middle < top - RADIUS:
                continue
            slot = (middle + SPAN * 2) % SPAN * pitch
            if 0 <= middle < height:
                around(rings, middle, pitch)
                for x in range(MARGIN, end, WIDTH):
                    mean_a, mean_b = across(means, x, rings, taps), across(means, ring + x, rings, taps)
                    aa, bb = (
                        across(means, 2 * ring + x, rings, taps),
                        across(means, 3 * ring + x, rings, taps),
                    )
                    ab = across(means, 4 * ring + x, rings, taps)
                    both, square_a, square_b = mean_a * mean_b, mean_a * mean_a, mean_b * mean_b
                    p, q = fma(both, 2.0, c1), fma(ab - both, 2.0, c2)
                    r, s = square_a + square_b + c1, aa - square_a + bb - square_b + c2
                    share = splat(image, 1.0) / (r * s)
                    value = p * q * share
                    # as in losses/photometric.py
                    common, twist = (q - p) * share * 2.0, value * (r * share - s * share) * 2.0
                    store(values, x, value)
                    store(row, x, common * mean_b + twist * mean_a)
                    store(row, pitch + x, zero - value * (r * share))
                    store(row, 2 * pitch + x, p * share * 2.0)
                clear(values, end, pitch)
                for k in range(3):
                    clear(row, k * pitch + end, (k + 1) * pitch)
                if top <= middle < bottom:
                    total = zero
                    for x in range(MARGIN, end, WIDTH):
                        total = total + load(values, x)
                    store(lanes, 0, total)
                    sums[n, middle, 2] = lanes.sum()
                for x in range(MARGIN, end, WIDTH):
                    for k in range(3):
                        store(slopes, k * ring + slot + x, along(row, k * pitch + x, taps))
            else:
                for k in range(3):
                    clear(slopes, k * ring + slot, k * ring + slot + pitch)
            leaving = middle - RADIUS
            if leaving < top:
                continue
            slot = leaving % SPAN * pitch
            around(rings, leaving, pitch)
            total, squares = zero, zero
            for x in range(MARGIN, end, WIDTH):
                va, vb = load(a, slot + x), load(b, slot + x)
                d = va - vb
                total, squares = total + magnitude(d), fma(d, d, squares)
                slope = across(slopes, x, rings, taps)
                slope = fma(va * 2.0, across(slopes, ring + x, rings, taps), slope)
                slope = fma(vb, across(slopes, 2 * ring + x, rings, taps), slope)
                sign = select(d > zero, up, select(d >= zero, zero, down))
                store(values, x, fma(slope, -weights[1], sign))
            store(lanes, 0, total)
            sums[n, leaving, 0] = lanes.sum()
            store(lanes, 0, squares)
            sums[n, leaving, 1] = lanes.sum()
            for x in range(length):
                gradient[n, leaving, x] = values[MARGIN + x]
