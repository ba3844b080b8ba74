"""The noise that moves faint Gaussians, shaped like each of them. `train/exploration.py` has the readable twin."""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import math

from .build import kernel, part
from .shading import length_of


@part
def turned(w, x, y, z, a, b, c):
    """The vector (a, b, c), turned by a unit quaternion."""
    p, q, r = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return a + w * p + y * r - z * q, b + w * q + z * p - x * r, c + w * r + x * q - y * p


@kernel
def shape_noise(first, last, log_scales, quats, logits, held, strength, dead, sharpness, highest, noise):
    """Gaussians `first` to `last`: `noise` [N, 3] becomes their shift.

    log_scales [N, 3], quats [N, 4], logits, held [N]; strength: where the gate is 1; dead: the opacity where it is a half;
    highest: the logit above which it is closed.
    """
    for n in range(first, last):
        if held[n] or logits[n] > highest:
            for k in range(3):
                noise[n, k] = 0
            continue
        opacity = 1 / (1 + math.exp(-logits[n]))
        factor = strength / (1 + math.exp(sharpness * (opacity - dead)))
        w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        inverse = 1 / length_of(w * w + x * x + y * y + z * z)
        w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
        # along the Gaussian's own axes, scaled there, and back
        a, b, c = turned(w, -x, -y, -z, noise[n, 0], noise[n, 1], noise[n, 2])
        a *= factor * math.exp(2 * log_scales[n, 0])
        b *= factor * math.exp(2 * log_scales[n, 1])
        c *= factor * math.exp(2 * log_scales[n, 2])
        noise[n, 0], noise[n, 1], noise[n, 2] = turned(w, x, y, z, a, b, c)
