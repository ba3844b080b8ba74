"""Samples of the six planes of HexPlane levels, their product and its gradient. `deform/plane_sampling.py` has the twin.

Planes [H, W, C] and lines [W, C] keep the channels of a point together: sixteen of them are one vector. A level is the tuple
(xy, xz, yz) of planes and the tuple (xt, yt, zt) of the time planes' lines at one time.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from .build import kernel, part
from .simd import WIDTH, fma, load, splat, store
from .sums import store_sums


@part
def place(coordinate, size):
    """(cell, fraction within it, cells per unit of the coordinate) on an axis of `size` samples from -1 to 1.

    Beyond the border, the border's own value; its slope is zero there.
    """
    half = 0.5 * (size - 1)
    exact = (coordinate + 1.0) * half
    position = min(max(exact, 0.0), size - 1.0)
    cell = min(int(position), max(size - 2, 0))
    return cell, position - cell, half if position == exact else 0.0


@part
def along(values, at, step, fraction):
    """(the sample between `at` and `at + step`, its slope)."""
    here = load(values, at)
    slope = load(values, at + step) - here
    return fma(slope, fraction, here), slope


@part
def add(values, at, lanes):
    store(values, at, load(values, at) + lanes)


@part
def spread(gradient, at, step, fraction, lanes):
    """The adjoint of `along`."""
    far = lanes * fraction
    add(gradient, at, lanes - far)
    add(gradient, at + step, far)


@kernel
def sample(first, last, points, levels, features):
    """Points `first` to `last`: points [N, 3], features [N, levels · C]."""
    for n in range(first, last):
        for level in range(len(levels)):
            xy, xz, yz = levels[level][0]
            xt, yt, zt = levels[level][1]
            channels = xy.shape[2]
            (height, width), depth = xy.shape[:2], xz.shape[0]
            x, fx, _ = place(points[n, 0], width)
            y, fy, _ = place(points[n, 1], height)
            z, fz, _ = place(points[n, 2], depth)
            right, down = (channels if width > 1 else 0), (channels if height > 1 else 0)
            back = channels if depth > 1 else 0
            at_xy, at_xz = (y * width + x) * channels, (z * width + x) * channels
            at_yz = (z * height + y) * channels
            for c in range(0, channels, WIDTH):
                top, _ = along(xy, at_xy + c, right, fx)
                low, _ = along(xy, at_xy + c + down * width, right, fx)
                value = fma(low - top, fy, top)
                top, _ = along(xz, at_xz + c, right, fx)
                low, _ = along(xz, at_xz + c + back * width, right, fx)
                value = value * fma(low - top, fz, top)
                top, _ = along(yz, at_yz + c, down, fy)
                low, _ = along(yz, at_yz + c + back * height, down, fy)
                value = value * fma(low - top, fz, top)
                moving_x, _ = along(xt, x * channels + c, right, fx)
                moving_y, _ = along(yt, y * channels + c, down, fy)
                moving_z, _ = along(zt, z * channels + c, back, fz)
                value = value * (moving_x * moving_y * moving_z)
                store(features, (n * len(levels) + level) * channels + c, value)


@kernel
def sample_backward(first, last, points, levels, gradient, learns, slopes, point_slopes):
    """Levels `first` to `last`, each of which owns its planes.

    gradient [N, levels · C]; slopes, as levels: what the planes and lines get where `learns`, added; point_slopes [levels, N, 3].
    """
    sums = np.zeros(WIDTH, points.dtype)
    for level in range(first, last):
        xy, xz, yz = levels[level][0]
        xt, yt, zt = levels[level][1]
        to_xy, to_xz, to_yz = slopes[level][0]
        to_xt, to_yt, to_zt = slopes[level][1]
        channels = xy.shape[2]
        (height, width), depth = xy.shape[:2], xz.shape[0]
        right, down = (channels if width > 1 else 0), (channels if height > 1 else 0)
        back = channels if depth > 1 else 0
        for n in range(len(points)):
            x, fx, per_x = place(points[n, 0], width)
            y, fy, per_y = place(points[n, 1], height)
            z, fz, per_z = place(points[n, 2], depth)
            at_xy, at_xz = (y * width + x) * channels, (z * width + x) * channels
            at_yz = (z * height + y) * channels
            sum_x, sum_y, sum_z = splat(points, 0.0), splat(points, 0.0), splat(points, 0.0)
            for c in range(0, channels, WIDTH):
                a_top, a_upper = along(xy, at_xy + c, right, fx)
                a_low, a_lower = along(xy, at_xy + c + down * width, right, fx)
                b_top, b_upper = along(xz, at_xz + c, right, fx)
                b_low, b_lower = along(xz, at_xz + c + back * width, right, fx)
                d_top, d_upper = along(yz, at_yz + c, down, fy)
                d_low, d_lower = along(yz, at_yz + c + back * height, down, fy)
                a, b, d = (
                    fma(a_low - a_top, fy, a_top),
                    fma(b_low - b_top, fz, b_top),
                    fma(d_low - d_top, fz, d_top),
                )
                p, p_slope = along(xt, x * channels + c, right, fx)
                q, q_slope = along(yt, y * channels + c, down, fy)
                r, r_slope = along(zt, z * channels + c, back, fz)
                given = load(gradient, (n * len(levels) + level) * channels + c)
                still, moving = given * (p * q * r), given * (a * b * d)
                to_a, to_b, to_d = still * (b * d), still * (a * d), still * (a * b)
                to_p, to_q, to_r = moving * (q * r), moving * (p * r), moving * (p * q)
                if learns:
                    below = to_a * fy
                    spread(to_xy, at_xy + c, right, fx, to_a - below)
                    spread(to_xy, at_xy + c + down * width, right, fx, below)
                    below = to_b * fz
                    spread(to_xz, at_xz + c, right, fx, to_b - below)
                    spread(to_xz, at_xz + c + back * width, right, fx, below)
                    below = to_d * fz
                    spread(to_yz, at_yz + c, down, fy, to_d - below)
                    spread(to_yz, at_yz + c + back * height, down, fy, below)
                    spread(to_xt, x * channels + c, right, fx, to_p)
                    spread(to_yt, y * channels + c, down, fy, to_q)
                    spread(to_zt, z * channels + c, back, fz, to_r)
                sum_x = fma(to_a, fma(a_lower - a_upper, fy, a_upper), sum_x)
                sum_x = fma(to_b, fma(b_lower - b_upper, fz, b_upper), fma(to_p, p_slope, sum_x))
                sum_y = fma(to_a, a_low - a_top, fma(to_q, q_slope, sum_y))
                sum_y = fma(to_d, fma(d_lower - d_upper, fz, d_upper), sum_y)
                sum_z = fma(to_b, b_low - b_top, fma(to_d, d_low - d_top, fma(to_r, r_slope, sum_z)))
            store_sums(sums, 0, (sum_x, sum_y, sum_z))
            point_slopes[level, n, 0] = sums[0] * per_x
            point_slopes[level, n, 1] = sums[1] * per_y
            point_slopes[level, n, 2] = sums[2] * per_z
