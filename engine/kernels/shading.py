"""Activation of Gaussians and their colors toward cameras, and the gradient of both. `render/shading.py` has the readable twin.

Sixteen Gaussians are one block: their SH coefficients are turned around in a scratch array, so that a vector holds one
coefficient of each, and serve all cameras from there.

`scratch` holds vectors: the means from MEANS on, their gradient, a color and its gradient, quaternions and their gradient, or
scales, or logits, the K values of the SH bases, their weights, then the 3·K coefficients, and in the backward pass the 3·K
gradients of these.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .functions import exp
from .rows import gather, gather_rows, scatter, scatter_rows
from .simd import WIDTH, fma, load, root, select, splat, store
from .sums import load_all, store_all

# shorter ones are not normalized (torch.nn.functional.normalize)
SHORTEST = 1e-12
MEANS, MEAN_SLOPES, COLOR, SHAPE = 0, 3, 6, 9
VALUES = 17
ONE, THREE, FOUR = (0,), (0,) * 3, (0,) * 4


@part
def inverse_of(length, like):
    """1 / what a vector is divided by to normalize it, and that again where normalizing has a slope along it, else 0."""
    inverse = splat(like, 1.0) / select(length <= SHORTEST, SHORTEST, length)
    return inverse, select(length <= SHORTEST, 0.0, inverse)


@part
def inverse_length(x, y, z, like):
    """`inverse_of` vectors in space."""
    return inverse_of(root(fma(x, x, fma(y, y, z * z))), like)


@part
def inverse_norm(w, x, y, z, like):
    """`inverse_of` quaternions."""
    return inverse_of(root(fma(w, w, fma(x, x, fma(y, y, z * z)))), like)


@part
def bases(values, x, y, z, count, c):
    """The first `count` SH bases in unit directions, as `harmonics.basis`; c: its fourteen constants."""
    store(values, VALUES * WIDTH, splat(values, c[0]))
    if count == 1:
        return
    at = VALUES * WIDTH
    store(values, at + WIDTH, y * -c[1])
    store(values, at + 2 * WIDTH, z * c[1])
    store(values, at + 3 * WIDTH, x * -c[1])
    if count == 4:
        return
    xx, yy, zz = x * x, y * y, z * z
    store(values, at + 4 * WIDTH, x * y * c[2])
    store(values, at + 5 * WIDTH, y * z * c[3])
    store(values, at + 6 * WIDTH, (zz * 2.0 - xx - yy) * c[4])
    store(values, at + 7 * WIDTH, x * z * c[5])
    store(values, at + 8 * WIDTH, (xx - yy) * c[6])
    if count == 9:
        return
    store(values, at + 9 * WIDTH, y * (xx * 3.0 - yy) * c[7])
    store(values, at + 10 * WIDTH, x * y * z * c[8])
    store(values, at + 11 * WIDTH, y * (zz * 4.0 - xx - yy) * c[9])
    store(values, at + 12 * WIDTH, z * (zz * 2.0 - xx * 3.0 - yy * 3.0) * c[10])
    store(values, at + 13 * WIDTH, x * (zz * 4.0 - xx - yy) * c[11])
    store(values, at + 14 * WIDTH, z * (xx - yy) * c[12])
    store(values, at + 15 * WIDTH, x * (xx - yy * 3.0) * c[13])


@part
def slopes(weights, at, x, y, z, count, c):
    """The gradient by the direction of Σ weights[k] · basis k; the weights start at `at`."""
    w1, w2, w3 = load(weights, at + WIDTH), load(weights, at + 2 * WIDTH), load(weights, at + 3 * WIDTH)
    dx, dy, dz = w3 * -c[1], w1 * -c[1], w2 * c[1]
    if count == 4:
        return dx, dy, dz
    w4, w5, w6 = (
        load(weights, at + 4 * WIDTH) * c[2],
        load(weights, at + 5 * WIDTH) * c[3],
        load(weights, at + 6 * WIDTH) * c[4],
    )
    w7, w8 = load(weights, at + 7 * WIDTH) * c[5], load(weights, at + 8 * WIDTH) * c[6]
    dx = dx + w4 * y + w7 * z + (w8 - w6) * x * 2.0
    dy = dy + w4 * x + w5 * z - (w8 + w6) * y * 2.0
    dz = dz + w5 * y + w7 * x + w6 * z * 4.0
    if count == 9:
        return dx, dy, dz
    xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
    w9, w10, w11 = (
        load(weights, at + 9 * WIDTH) * c[7],
        load(weights, at + 10 * WIDTH) * c[8],
        load(weights, at + 11 * WIDTH) * c[9],
    )
    w12, w13 = load(weights, at + 12 * WIDTH) * c[10], load(weights, at + 13 * WIDTH) * c[11]
    w14, w15 = load(weights, at + 14 * WIDTH) * c[12], load(weights, at + 15 * WIDTH) * c[13]
    dx = dx + w9 * xy * 6.0 + w10 * yz - w11 * xy * 2.0 - w12 * xz * 6.0
    dx = dx + w13 * (zz * 4.0 - xx * 3.0 - yy) + w14 * xz * 2.0 + w15 * (xx - yy) * 3.0
    dy = dy + w9 * (xx - yy) * 3.0 + w10 * xz + w11 * (zz * 4.0 - xx - yy * 3.0) - w12 * yz * 6.0
    dy = dy - w13 * xy * 2.0 - w14 * yz * 2.0 - w15 * xy * 6.0
    dz = dz + w10 * xy + w11 * yz * 8.0 + w12 * (zz * 6.0 - xx * 3.0 - yy * 3.0)
    dz = dz + w13 * xz * 8.0 + w14 * (xx - yy)
    return dx, dy, dz


@part
def direction(scratch, centers, view):
    """From a camera's center to the block's means: unit vectors, and what `inverse_length` gives."""
    x = load(scratch, MEANS * WIDTH) - splat(scratch, centers[view, 0])
    y = load(scratch, (MEANS + 1) * WIDTH) - splat(scratch, centers[view, 1])
    z = load(scratch, (MEANS + 2) * WIDTH) - splat(scratch, centers[view, 2])
    inverse, along = inverse_length(x, y, z, scratch)
    return x * inverse, y * inverse, z * inverse, inverse, along


@part
def color(scratch, coefficients, channel, count):
    """SH sum plus 0.5 of a channel, not clamped."""
    # rounded before the 0.5 is added, as the twin does: black stays exactly black, where a clamped color has no gradient
    value = load(scratch, VALUES * WIDTH) * load(scratch, coefficients + channel * WIDTH)
    for k in range(1, count):
        sh = load(scratch, coefficients + (3 * k + channel) * WIDTH)
        value = fma(load(scratch, (VALUES + k) * WIDTH), sh, value)
    return value + 0.5


@kernel
def shade(
    first, last, means, log_scales, quats, logits, sh, centers, count, c, unit, scales, opacities, colors
):
    """Gaussians `first` to `last`.

    means, log_scales [N, 3], quats [N, 4], logits [N], sh [N, 3·K], centers [B, 3]; count: SH bases in use; c: see `bases`.
    Written: unit [N, 4], scales [N, 3], opacities [N], colors [B, N, 3].
    """
    coefficients = (VALUES + 2 * count) * WIDTH
    scratch = np.zeros(coefficients + 3 * count * WIDTH, means.dtype)
    for start in range(first, last, WIDTH):
        end = min(start + WIDTH, last)
        at = SHAPE * WIDTH
        gather_rows(scratch, at, quats, start, end, FOUR)
        w, x, y, z = load_all(scratch, at, FOUR)
        inverse, _ = inverse_norm(w, x, y, z, scratch)
        store_all(scratch, at, (w * inverse, x * inverse, y * inverse, z * inverse))
        scatter_rows(unit, start, end, FOUR, scratch, at)
        gather_rows(scratch, at, log_scales, start, end, THREE)
        for k in range(3):
            store(scratch, at + k * WIDTH, exp(load(scratch, at + k * WIDTH)))
        scatter_rows(scales, start, end, THREE, scratch, at)
        gather_rows(scratch, at, logits, start, end, ONE)
        store(scratch, at, splat(scratch, 1.0) / (exp(load(scratch, at) * -1.0) + 1.0))
        scatter_rows(opacities, start, end, ONE, scratch, at)
        gather_rows(scratch, MEANS * WIDTH, means, start, end, THREE)
        gather(scratch, coefficients, sh, start, end, 3 * count)
        for view in range(len(centers)):
            x, y, z, _, _ = direction(scratch, centers, view)
            bases(scratch, x, y, z, count, c)
            for channel in range(3):
                value = color(scratch, coefficients, channel, count)
                store(scratch, (COLOR + channel) * WIDTH, select(value <= 0.0, 0.0, value))
            scatter_rows(colors[view], start, end, THREE, scratch, COLOR * WIDTH)


@kernel
def shade_backward(
    first, last, means, quats, sh, centers, count, c, scales, opacities,
    to_unit, to_scales, to_opacities, to_colors,
    to_means, to_log_scales, to_quats, to_logits, to_sh,
):  # fmt: skip
    """Gaussians `first` to `last`; inputs as `shade`'s, then the gradients of its results, then those that are written.

    to_sh [N, 3·K] is written up to the bases in use.
    """
    weights = (VALUES + count) * WIDTH
    coefficients = weights + count * WIDTH
    sums = coefficients + 3 * count * WIDTH
    scratch = np.zeros(sums + 3 * count * WIDTH, means.dtype)
    zero = splat(scratch, 0.0)
    for start in range(first, last, WIDTH):
        end = min(start + WIDTH, last)
        gather_rows(scratch, MEANS * WIDTH, means, start, end, THREE)
        gather(scratch, coefficients, sh, start, end, 3 * count)
        for k in range(3):
            store(scratch, (MEAN_SLOPES + k) * WIDTH, zero)
        for k in range(3 * count):
            store(scratch, sums + k * WIDTH, zero)
        for view in range(len(centers)):
            x, y, z, inverse, along = direction(scratch, centers, view)
            bases(scratch, x, y, z, count, c)
            gather_rows(scratch, COLOR * WIDTH, to_colors[view], start, end, THREE)
            for k in range(count):
                store(scratch, weights + k * WIDTH, zero)
            for channel in range(3):
                # not where the color is clamped
                given = select(
                    color(scratch, coefficients, channel, count) >= 0.0,
                    load(scratch, (COLOR + channel) * WIDTH),
                    0.0,
                )
                for k in range(count):
                    at = (3 * k + channel) * WIDTH
                    value = fma(given, load(scratch, (VALUES + k) * WIDTH), load(scratch, sums + at))
                    store(scratch, sums + at, value)
                    value = fma(given, load(scratch, coefficients + at), load(scratch, weights + k * WIDTH))
                    store(scratch, weights + k * WIDTH, value)
            if count > 1:
                dx, dy, dz = slopes(scratch, weights, x, y, z, count, c)
                # of normalizing: what lies along the direction is lost
                lost = fma(dx, x, fma(dy, y, dz * z)) * along
                at = MEAN_SLOPES * WIDTH
                store(scratch, at, fma(dx, inverse, load(scratch, at) - x * lost))
                at += WIDTH
                store(scratch, at, fma(dy, inverse, load(scratch, at) - y * lost))
                at += WIDTH
                store(scratch, at, fma(dz, inverse, load(scratch, at) - z * lost))
        scatter_rows(to_means, start, end, THREE, scratch, MEAN_SLOPES * WIDTH)
        scatter(to_sh, start, end, 3 * count, scratch, sums)
        at, given = SHAPE * WIDTH, (SHAPE + 4) * WIDTH
        gather_rows(scratch, at, quats, start, end, FOUR)
        gather_rows(scratch, given, to_unit, start, end, FOUR)
        w, x, y, z = load_all(scratch, at, FOUR)
        dw, dx, dy, dz = load_all(scratch, given, FOUR)
        inverse, along = inverse_norm(w, x, y, z, scratch)
        # of normalizing: what lies along the quaternion is lost
        lost = fma(dw, w, fma(dx, x, fma(dy, y, dz * z))) * along * along
        dw, dx, dy, dz = dw - w * lost, dx - x * lost, dy - y * lost, dz - z * lost
        store_all(scratch, at, (dw * inverse, dx * inverse, dy * inverse, dz * inverse))
        scatter_rows(to_quats, start, end, FOUR, scratch, at)
        gather_rows(scratch, at, scales, start, end, THREE)
        gather_rows(scratch, given, to_scales, start, end, THREE)
        for k in range(0, 3 * WIDTH, WIDTH):
            store(scratch, at + k, load(scratch, at + k) * load(scratch, given + k))
        scatter_rows(to_log_scales, start, end, THREE, scratch, at)
        gather_rows(scratch, at, opacities, start, end, ONE)
        gather_rows(scratch, given, to_opacities, start, end, ONE)
        opacity = load(scratch, at)
        store(scratch, at, load(scratch, given) * opacity * (splat(scratch, 1.0) - opacity))
        scatter_rows(to_logits, start, end, ONE, scratch, at)
