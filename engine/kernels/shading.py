"""Activation of Gaussians and their colors toward cameras, and the gradient of both. `render/shading.py` has the readable twin.

Sixteen Gaussians are one block: their SH coefficients are turned around in a scratch array, so that a vector holds one
coefficient of each, and serve all cameras from there. Exponentials and quaternions are computed one by one.

`scratch` holds vectors: the means from MEANS on, their gradient, a color and its gradient, the K values of the SH bases, their
weights, then the 3·K coefficients, and in the backward pass the 3·K gradients of these.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import math

import numpy as np

from .build import kernel, part
from .rows import gather, scatter
from .simd import WIDTH, fma, load, root, select, splat, store

# shorter ones are not normalized (torch.nn.functional.normalize)
SHORTEST = 1e-12
MEANS, MEAN_SLOPES, COLOR = 0, 3, 6
VALUES = 9


@part
def length_of(squared):
    """What a vector is divided by to normalize it; NaN stays NaN."""
    length = math.sqrt(squared)
    return SHORTEST if length <= SHORTEST else length


@part
def inverse_length(x, y, z, like):
    """1 / the length, and that again where normalizing has a slope along the direction, else 0."""
    length = root(fma(x, x, fma(y, y, z * z)))
    inverse = splat(like, 1.0) / select(length <= SHORTEST, SHORTEST, length)
    return inverse, select(length <= SHORTEST, 0.0, inverse)


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
        for n in range(start, end):
            squared = 0.0
            for k in range(4):
                squared += quats[n, k] * quats[n, k]
            inverse = 1 / length_of(squared)
            for k in range(4):
                unit[n, k] = quats[n, k] * inverse
            for k in range(3):
                scales[n, k] = math.exp(log_scales[n, k])
            opacities[n] = 1 / (1 + math.exp(-logits[n]))
        gather(scratch, MEANS * WIDTH, means, start, end, 3)
        gather(scratch, coefficients, sh, start, end, 3 * count)
        for view in range(len(centers)):
            x, y, z, _, _ = direction(scratch, centers, view)
            bases(scratch, x, y, z, count, c)
            for channel in range(3):
                value = color(scratch, coefficients, channel, count)
                store(scratch, (COLOR + channel) * WIDTH, select(value <= 0.0, 0.0, value))
            scatter(colors[view], start, end, 3, scratch, COLOR * WIDTH)


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
        gather(scratch, MEANS * WIDTH, means, start, end, 3)
        gather(scratch, coefficients, sh, start, end, 3 * count)
        for k in range(3):
            store(scratch, (MEAN_SLOPES + k) * WIDTH, zero)
        for k in range(3 * count):
            store(scratch, sums + k * WIDTH, zero)
        for view in range(len(centers)):
            x, y, z, inverse, along = direction(scratch, centers, view)
            bases(scratch, x, y, z, count, c)
            gather(scratch, COLOR * WIDTH, to_colors[view], start, end, 3)
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
        scatter(to_means, start, end, 3, scratch, MEAN_SLOPES * WIDTH)
        scatter(to_sh, start, end, 3 * count, scratch, sums)
        for n in range(start, end):
            squared, dot = 0.0, 0.0
            for k in range(4):
                squared += quats[n, k] * quats[n, k]
                dot += quats[n, k] * to_unit[n, k]
            length = length_of(squared)
            # of normalizing: what lies along the quaternion is lost
            lost = dot / squared if length > SHORTEST else 0.0
            for k in range(4):
                to_quats[n, k] = (to_unit[n, k] - quats[n, k] * lost) / length
            for k in range(3):
                to_log_scales[n, k] = to_scales[n, k] * scales[n, k]
            to_logits[n] = to_opacities[n] * opacities[n] * (1 - opacities[n])
