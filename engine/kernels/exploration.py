"""The noise that moves faint Gaussians, shaped like each of them. `train/exploration.py` has the readable twin.

Sixteen Gaussians are one block. `scratch` holds vectors: the noise, the log scales, the quaternions and the logits.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .functions import exp
from .rows import gather_rows, scatter_rows
from .shading import FOUR, ONE, THREE, inverse_norm
from .simd import WIDTH, fma, load, select, splat
from .sums import load_all, store_all

SCALES, QUATS, LOGITS, ALL = 3, 6, 10, 11


@part
def turned(w, x, y, z, a, b, c):
    """The vectors (a, b, c), turned by unit quaternions."""
    p, q, r = (y * c - z * b) * 2.0, (z * a - x * c) * 2.0, (x * b - y * a) * 2.0
    return (
        a + fma(w, p, y * r - z * q),
        b + fma(w, q, z * p - x * r),
        c + fma(w, r, x * q - y * p),
    )


@part
def is_any_open(logits, first, last, highest):
    """Whether a gate is open; it is taken for open where the logit is NaN."""
    for n in range(first, last):
        if not logits[n] > highest:
            return True
    return False


@kernel
def shape_noise(first, last, log_scales, quats, logits, held, strength, dead, sharpness, highest, noise):
    """Gaussians `first` to `last`: `noise` [N, 3] becomes their shift.

    log_scales [N, 3], quats [N, 4], logits, held [N]; strength: where the gate is 1; dead: the opacity where it is a half;
    highest: the logit above which it is closed.
    """
    scratch = np.zeros(ALL * WIDTH, noise.dtype)
    one = splat(scratch, 1.0)
    for start in range(first, last, WIDTH):
        end = min(start + WIDTH, last)
        if not is_any_open(logits, start, end, highest):
            noise[start:end] = 0
            continue
        gather_rows(scratch, 0, noise, start, end, THREE)
        gather_rows(scratch, SCALES * WIDTH, log_scales, start, end, THREE)
        gather_rows(scratch, QUATS * WIDTH, quats, start, end, FOUR)
        gather_rows(scratch, LOGITS * WIDTH, logits, start, end, ONE)
        logit = load(scratch, LOGITS * WIDTH)
        opacity = one / (exp(logit * -1.0) + 1.0)
        factor = splat(scratch, strength) / (exp((opacity - dead) * sharpness) + 1.0)
        factor = select(logit >= highest, 0.0, factor)
        w, x, y, z = load_all(scratch, QUATS * WIDTH, FOUR)
        inverse, _ = inverse_norm(w, x, y, z, scratch)
        w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
        a, b, c = load_all(scratch, 0, THREE)
        # along the Gaussian's own axes, scaled there, and back
        a, b, c = turned(w, x * -1.0, y * -1.0, z * -1.0, a, b, c)
        a = a * factor * exp(load(scratch, SCALES * WIDTH) * 2.0)
        b = b * factor * exp(load(scratch, (SCALES + 1) * WIDTH) * 2.0)
        c = c * factor * exp(load(scratch, (SCALES + 2) * WIDTH) * 2.0)
        a, b, c = turned(w, x, y, z, a, b, c)
        store_all(scratch, 0, (a, b, c))
        scatter_rows(noise, start, end, THREE, scratch, 0)
        for n in range(start, end):
            if held[n]:
                noise[n] = 0
