"""Sixteen Gaussians at once, turned to cameras: what the projection and its gradient share.

The numbers of a group are turned around in a scratch array of vectors, which are named here, from MEANS on.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

from ...kernels.build import part
from ...kernels.rows import gather_rows
from ...kernels.simd import WIDTH, fma, load, root, select, splat
from ...kernels.sums import load_all, store_all

LOG2E = 1.4426950408889634
# alpha below 1/255 is not drawn
LOG2_255 = 7.9943534368588578
TILE = 16
# mean x, y; conic a, b, c (times log2 e, and a, c halved); log2 opacity
GEOMETRY = 6

# numbers in a row
TWO, THREE, FOUR, SIX = (0,) * 2, (0,) * 3, (0,) * 4, (0,) * GEOMETRY

# ---- where vectors are in the scratch arrays
MEANS, QUATS, SCALES, OPACITY = 0, 3 * WIDTH, 7 * WIDTH, 10 * WIDTH
# R · diag(scale), row by row
SHAPE = 11 * WIDTH
# what one camera sees of them: GEOMETRY vectors
ELLIPSE = 20 * WIDTH


@part
def bounded(x, low, high):
    return select(x <= low, low, select(x >= high, high, x))


@part
def positive(x):
    """max(x, 0); NaN stays NaN."""
    return select(x <= 0.0, 0.0, x)


@part
def to_camera(camera, x, y, z):
    """Vectors turned to a camera."""
    return (
        fma(x, camera[0], fma(y, camera[1], z * camera[2])),
        fma(x, camera[3], fma(y, camera[4], z * camera[5])),
        fma(x, camera[6], fma(y, camera[7], z * camera[8])),
    )


@part
def rotation(w, x, y, z):
    return (
        1.0 - (y * y + z * z) * 2.0, (x * y - w * z) * 2.0, (x * z + w * y) * 2.0,
        (x * y + w * z) * 2.0, 1.0 - (x * x + z * z) * 2.0, (y * z - w * x) * 2.0,
        (x * z - w * y) * 2.0, (y * z + w * x) * 2.0, 1.0 - (x * x + y * y) * 2.0,
    )  # fmt: skip


@part
def load_group(scratch, splats, first, last):
    """Gaussians `first` to `last` with unit quaternions and their SHAPE; returns 1/length of the quaternions."""
    gather_rows(scratch, MEANS, splats.means, first, last, THREE)
    gather_rows(scratch, QUATS, splats.quats, first, last, FOUR)
    gather_rows(scratch, SCALES, splats.scales, first, last, THREE)
    for n in range(first, last):
        scratch[OPACITY + n - first] = splats.opacities[n]
    w, x, y, z = load_all(scratch, QUATS, FOUR)
    inverse = 1.0 / (root(fma(w, w, fma(x, x, fma(y, y, z * z)))) + 1e-30)
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    store_all(scratch, QUATS, (w, x, y, z))
    R = rotation(w, x, y, z)
    sx, sy, sz = load_all(scratch, SCALES, THREE)
    shape = (
        R[0] * sx, R[1] * sy, R[2] * sz,
        R[3] * sx, R[4] * sy, R[5] * sz,
        R[6] * sx, R[7] * sy, R[8] * sz,
    )  # fmt: skip
    store_all(scratch, SHAPE, shape)
    return inverse


@part
def camera_point(scratch, camera):
    x, y, z = load_all(scratch, MEANS, THREE)
    x, y, z = to_camera(camera, x, y, z)
    return x + camera[9], y + camera[10], z + camera[11]


@part
def rays(u, v, camera, width, height):
    """Ray directions, clamped to 1.3 fields of view."""
    fx, fy, cx, cy = camera[12], camera[13], camera[14], camera[15]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    return (
        bounded(u, -cx / fx - margin_x, (width - cx) / fx + margin_x),
        bounded(v, -cy / fy - margin_y, (height - cy) / fy + margin_y),
    )


@part
def camera_column(scratch, camera, k):
    """Column k of camera rotation · SHAPE."""
    at = SHAPE + k * WIDTH
    return to_camera(camera, load(scratch, at), load(scratch, at + 3 * WIDTH), load(scratch, at + 6 * WIDTH))


@part
def covariance(scratch, camera, j00, j11, ray_x, ray_y):
    """xx, xy and yy of Σ = P Pᵀ with P = J · camera rotation · SHAPE."""
    zero = splat(scratch, 0.0)
    xx, xy, yy = zero, zero, zero
    for k in range(3):
        x, y, z = camera_column(scratch, camera, k)
        px, py = (x - ray_x * z) * j00, (y - ray_y * z) * j11
        xx, xy, yy = fma(px, px, xx), fma(px, py, xy), fma(py, py, yy)
    return xx, xy, yy
