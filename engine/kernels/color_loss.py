"""L1 and SSIM of images, and their gradient, in one pass over the rows. `losses/color_loss.py` has the readable twin.

A row enters; five rows later the rows around a row, blurred across and then along it, give its SSIM and the derivatives by the
blurred means, squares and products; another five rows later those, blurred in turn, give the row's gradient. Only the last
eleven rows of everything are kept, and of wide images a strip of columns at a time, so that all of it stays in the cache,
however large the image is. The three channels stay interleaved: neighbors along a row are three numbers apart.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .simd import WIDTH, fma, load, magnitude, select, splat, store

# rows that the 11×11 window of SSIM spans
SPAN = 11
RADIUS = 5
# rows that a band reads beyond its own on either side
HALO = 2 * RADIUS
# numbers that the window reaches along a row, in whole vectors, and those that a strip reads beyond its own on either side
REACH = WIDTH
MARGIN = 2 * REACH


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
def add_pair(sums, a, b, above, below, tap):
    """`sums` of a, b, a² + b² and ab, with two rows as far from the middle one."""
    a1, b1, a2, b2 = load(a, above), load(b, above), load(a, below), load(b, below)
    return (
        fma(a1 + a2, tap, sums[0]),
        fma(b1 + b2, tap, sums[1]),
        fma((a1 * a1 + b1 * b1) + (a2 * a2 + b2 * b2), tap, sums[2]),
        fma(a1 * b1 + a2 * b2, tap, sums[3]),
    )


@part
def moments(a, b, at, rings, taps):
    """a, b, a² + b² and ab, blurred over eleven rows as by `across`."""
    va, vb = load(a, at + rings[5]), load(b, at + rings[5])
    sums = (va * taps[5], vb * taps[5], (va * va + vb * vb) * taps[5], va * vb * taps[5])
    sums = add_pair(sums, a, b, at + rings[0], at + rings[10], taps[0])
    sums = add_pair(sums, a, b, at + rings[1], at + rings[9], taps[1])
    sums = add_pair(sums, a, b, at + rings[2], at + rings[8], taps[2])
    sums = add_pair(sums, a, b, at + rings[3], at + rings[7], taps[3])
    return add_pair(sums, a, b, at + rings[4], at + rings[6], taps[4])


@part
def place(row, pitch):
    """Where a row starts in a ring."""
    return (row + 2 * SPAN) % SPAN * pitch


@part
def around(row, pitch):
    """Where the rows `row` - 5 … `row` + 5 start in a ring."""
    return (
        place(row - 5, pitch),
        place(row - 4, pitch),
        place(row - 3, pitch),
        place(row - 2, pitch),
        place(row - 1, pitch),
        place(row, pitch),
        place(row + 1, pitch),
        place(row + 2, pitch),
        place(row + 3, pitch),
        place(row + 4, pitch),
        place(row + 5, pitch),
    )


@part
def copy(source, start, target, to, count):
    """`count` numbers from `start` on, to `to`."""
    whole = count // WIDTH * WIDTH
    for x in range(0, whole, WIDTH):
        store(target, to + x, load(source, start + x))
    for x in range(whole, count):
        target[to + x] = source[start + x]


@part
def clear(row, first, last):
    for x in range(first, last):
        row[x] = 0


@kernel
def color_loss(
    first, last, bands, strips, height, length, image, truth, taps, constants, weights, gradient, sums
):
    """Items `first` to `last`: an image's `bands` of rows, each in `strips` of columns.

    image, truth, gradient [B·H·L] of B images with H = `height` rows of L = `length` numbers; taps [6]; constants C1, C2;
    weights of |d| and of SSIM per number, which the gradient gets; sums [B, H, strips, 3]: of |d|, d² and SSIM.
    """
    # a strip's columns, in vectors
    wide = ((length + WIDTH - 1) // WIDTH + strips - 1) // strips * WIDTH
    pitch = MARGIN + wide + MARGIN
    ring = SPAN * pitch
    a, b = np.zeros(ring, image.dtype), np.zeros(ring, image.dtype)
    # the three derivatives
    slopes = np.zeros(3 * ring, image.dtype)
    row = np.zeros(4 * pitch, image.dtype)
    values = np.zeros(pitch, image.dtype)
    lanes = np.zeros(WIDTH, image.dtype)
    zero, one = splat(image, 0.0), splat(image, 1.0)
    c1, c2 = splat(image, constants[0]), splat(image, constants[1])
    up, down = splat(image, weights[0]), splat(image, -weights[0])
    by = (
        splat(image, taps[0]),
        splat(image, taps[1]),
        splat(image, taps[2]),
        splat(image, taps[3]),
        splat(image, taps[4]),
        splat(image, taps[5]),
    )
    for item in range(first, last):
        n = item // (bands * strips)
        part_of = item // strips % bands
        strip = item % strips
        top, bottom = height * part_of // bands, height * (part_of + 1) // bands
        # of the image: the strip, and what enters for it; of a row here: where the image ends
        left, right = strip * wide, min((strip + 1) * wide, length)
        from_left, from_right = max(left - MARGIN, 0), min(right + MARGIN, length)
        shift = MARGIN - left
        end = length + shift
        own = right + shift
        # vectors with means, and with derivatives
        low, high = from_left + shift, from_right + shift
        inner_low, inner_high = max(low, REACH), min(high, pitch - REACH)
        clear(a, 0, ring)
        clear(b, 0, ring)
        clear(slopes, 0, 3 * ring)
        clear(row, 0, 4 * pitch)
        for entering in range(top - HALO, bottom + HALO):
            slot = place(entering, pitch)
            if 0 <= entering < height:
                start = (n * height + entering) * length + from_left
                copy(image, start, a, slot + low, from_right - from_left)
                copy(truth, start, b, slot + low, from_right - from_left)
            else:
                clear(a, slot, slot + pitch)
                clear(b, slot, slot + pitch)
            middle = entering - RADIUS
            if middle < top - RADIUS:
                continue
            slot = place(middle, pitch)
            if 0 <= middle < height:
                rings = around(middle, pitch)
                for x in range(low, high, WIDTH):
                    found = moments(a, b, x, rings, by)
                    store(row, x, found[0])
                    store(row, pitch + x, found[1])
                    store(row, 2 * pitch + x, found[2])
                    store(row, 3 * pitch + x, found[3])
                for x in range(inner_low, inner_high, WIDTH):
                    mean_a, mean_b = along(row, x, by), along(row, pitch + x, by)
                    both, squared = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
                    p = fma(both, 2.0, c1)
                    q = fma(along(row, 3 * pitch + x, by) - both, 2.0, c2)
                    r, s = squared + c1, along(row, 2 * pitch + x, by) - squared + c2
                    share = one / (r * s)
                    value = p * q * share
                    # as in losses/photometric.py
                    common, twist = (q - p) * share * 2.0, value * (r * share - s * share) * 2.0
                    store(values, x, value)
                    store(slopes, slot + x, common * mean_b + twist * mean_a)
                    store(slopes, ring + slot + x, zero - value * (r * share))
                    store(slopes, 2 * ring + slot + x, p * share * 2.0)
                if end < inner_high + WIDTH:
                    for k in range(3):
                        clear(slopes, k * ring + slot + end, k * ring + slot + pitch)
                if top <= middle < bottom:
                    clear(values, own, pitch)
                    total = zero
                    for x in range(MARGIN, own, WIDTH):
                        total = total + load(values, x)
                    store(lanes, 0, total)
                    sums[n, middle, strip, 2] = lanes.sum()
            else:
                for k in range(3):
                    clear(slopes, k * ring + slot, k * ring + slot + pitch)
            leaving = middle - RADIUS
            if leaving < top:
                continue
            slot = place(leaving, pitch)
            rings = around(leaving, pitch)
            for x in range(inner_low, inner_high, WIDTH):
                for k in range(3):
                    store(row, k * pitch + x, across(slopes, k * ring + x, rings, by))
            total, squares = zero, zero
            for x in range(MARGIN, own, WIDTH):
                va, vb = load(a, slot + x), load(b, slot + x)
                d = va - vb
                total, squares = total + magnitude(d), fma(d, d, squares)
                slope = fma(va * 2.0, along(row, pitch + x, by), along(row, x, by))
                slope = fma(vb, along(row, 2 * pitch + x, by), slope)
                sign = select(d > zero, up, select(d >= zero, zero, down))
                store(values, x, fma(slope, -weights[1], sign))
            store(lanes, 0, total)
            sums[n, leaving, strip, 0] = lanes.sum()
            store(lanes, 0, squares)
            sums[n, leaving, strip, 1] = lanes.sum()
            copy(values, MARGIN, gradient, (n * height + leaving) * length + left, right - left)
