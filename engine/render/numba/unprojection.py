"""The gradient of the projection: from each Gaussian's slots to means, quaternions, scales, opacities and features."""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from ...kernels.build import kernel, part
from ...kernels.functions import exp2
from ...kernels.rows import gather_rows, scatter_rows
from ...kernels.simd import WIDTH, fma, load, root, select, splat, store, widen
from ...kernels.sums import load_all, store_all
from .groups import (
    ELLIPSE,
    FOUR,
    GEOMETRY,
    LOG2E,
    OPACITY,
    QUATS,
    SCALES,
    SIX,
    THREE,
    TWO,
    camera_column,
    camera_point,
    covariance,
    load_group,
    positive,
    rays,
    rotation,
)  # fmt: skip

# ---- where vectors are in the scratch array, after those of groups.py
# gradients by SHAPE, means and opacity
TO_SHAPE, TO_MEANS, TO_OPACITY = 26 * WIDTH, 35 * WIDTH, 38 * WIDTH
# of one camera: number of slots, gradients by the projected means, sums of the slots
USED, TO_MEANS2D, SUMS = 39 * WIDTH, 40 * WIDTH, 42 * WIDTH
SIZE = 48 * WIDTH
# gradients by quaternions, and by scales
TO_QUATS, TO_SCALES = ELLIPSE, ELLIPSE + 4 * WIDTH
NINE = (0,) * 9


@part
def _to_world(camera, x, y, z):
    """Vectors turned from a camera to the world."""
    return (
        fma(x, camera[0], fma(y, camera[3], z * camera[6])),
        fma(x, camera[1], fma(y, camera[4], z * camera[7])),
        fma(x, camera[2], fma(y, camera[5], z * camera[8])),
    )


@part
def _add(scratch, at, lanes):
    store(scratch, at, load(scratch, at) + lanes)


@part
def _sum_slots(scratch, rows, slots, first, last):
    """Sums of the slots of each of a camera's Gaussians: USED, SUMS, and rows [16, ≥ 6 + C'].

    Reads up to WIDTH - 1 numbers beyond the last slot.
    """
    starts, length = slots.starts, slots.values.shape[1]
    values, flat = slots.values.reshape(slots.values.size), rows.reshape(rows.size)
    zero = splat(scratch, 0.0)
    store(scratch, USED, zero)
    for item in range(first, last):
        lane = item - first
        scratch[USED + lane] = starts[item + 1] - starts[item]
        for k in range(0, length, WIDTH):
            total = zero
            for slot in range(starts[item], starts[item + 1]):
                total = total + widen(load(values, slot * length + k))
            store(flat, lane * rows.shape[1] + k, total)
    # not in the loop above: a number cannot be read at once from a vector that was just written
    for k in range(GEOMETRY):
        for lane in range(WIDTH):
            scratch[SUMS + k * WIDTH + lane] = rows[lane, k]


@part
def _add_camera(scratch, camera, views, settings):
    """Adds a camera's gradients by SHAPE, means and opacity; fills TO_MEANS2D."""
    used = load(scratch, USED) > 0.0
    x, y, z = camera_point(scratch, camera)
    inverse = 1.0 / select(used, z, 1.0)
    u, v = x * inverse, y * inverse
    ray_x, ray_y = rays(u, v, camera, float(views.width), float(views.height))
    j00, j11 = inverse * camera[12], inverse * camera[13]
    # recover the conic from the values that `project` stored
    qa = load(scratch, ELLIPSE + 2 * WIDTH) * (2.0 / LOG2E)
    qb = load(scratch, ELLIPSE + 3 * WIDTH) * (1.0 / LOG2E)
    qc = load(scratch, ELLIPSE + 4 * WIDTH) * (2.0 / LOG2E)
    weight, sx, sy, ga, gb, gc = load_all(scratch, SUMS, SIX)
    gu, gv = fma(qa, sx, qb * sy), fma(qb, sx, qc * sy)
    store(scratch, TO_MEANS2D, gu)
    store(scratch, TO_MEANS2D + WIDTH, gv)
    # dL/dΣ = −Q G Q with G the symmetric gradient of the conic: (−Mxx/2, −Mxy/2, −Myy/2); here twice that
    ta, tb = fma(qa, ga, qb * gb), fma(qa, gb, qb * gc)
    tc, td = fma(qb, ga, qc * gb), fma(qb, gb, qc * gc)
    s_xx, s_xy, s_yy = fma(ta, qa, tb * qb), fma(ta, qb, tb * qc), fma(tc, qb, td * qc)
    opacity = load(scratch, OPACITY)
    if settings.antialiased:
        # opacity' = opacity · r with r² = det(Σ)/det(Σ + eps2d); d log r = ½ (adj Σ/det Σ − Q) : dΣ
        xx, xy, yy = covariance(scratch, camera, j00, j11, ray_x, ray_y)
        det = xx * yy - xy * xy
        sharp = 1.0 / select(det <= 1e-30, 1e-30, det)
        blurred = (xx + settings.eps2d) * (yy + settings.eps2d) - xy * xy
        to_opacity = root(positive(det) / blurred) * exp2(load(scratch, ELLIPSE + 5 * WIDTH) * -1.0)
        s_xx = fma(weight, yy * sharp - qa, s_xx)
        s_xy = fma(weight, xy * sharp * -1.0 - qb, s_xy)
        s_yy = fma(weight, xx * sharp - qc, s_yy)
    else:
        to_opacity = 1.0 / select(used, opacity, 1.0)
    to_opacity = select(used, weight * to_opacity, 0.0)
    store(scratch, TO_OPACITY, load(scratch, TO_OPACITY) + to_opacity)
    # dL/dJ, from P = J · camera rotation · SHAPE
    zero = splat(scratch, 0.0)
    h00, h02, h11, h12 = zero, zero, zero, zero
    for k in range(3):
        wx, wy, wz = camera_column(scratch, camera, k)
        px, py = (wx - ray_x * wz) * j00, (wy - ray_y * wz) * j11
        p0, p1 = fma(s_xx, px, s_xy * py), fma(s_xy, px, s_yy * py)
        h00, h02 = fma(p0, wx, h00), fma(p0, wz, h02)
        h11, h12 = fma(p1, wy, h11), fma(p1, wz, h12)
        c0, c1 = p0 * j00, p1 * j11
        c2 = (c0 * ray_x + c1 * ray_y) * -1.0
        gx, gy, gz = _to_world(camera, c0, c1, c2)
        at = TO_SHAPE + k * WIDTH
        _add(scratch, at, select(used, gx, 0.0))
        _add(scratch, at + 3 * WIDTH, select(used, gy, 0.0))
        _add(scratch, at + 6 * WIDTH, select(used, gz, 0.0))
    # a clamped ray does not follow the point
    free_u, free_v = (u >= ray_x) & (u <= ray_x), (v >= ray_y) & (v <= ray_y)
    along_u, along_v = h02 * inverse, h12 * inverse
    to_x = j00 * (gu - select(free_u, along_u, 0.0))
    to_y = j11 * (gv - select(free_v, along_v, 0.0))
    to_z = j00 * (along_u * ray_x * select(free_u, splat(scratch, 2.0), 1.0) - h00 * inverse - gu * u)
    to_z = to_z + j11 * (along_v * ray_y * select(free_v, splat(scratch, 2.0), 1.0) - h11 * inverse - gv * v)
    gx, gy, gz = _to_world(camera, to_x, to_y, to_z)
    _add(scratch, TO_MEANS, select(used, gx, 0.0))
    _add(scratch, TO_MEANS + WIDTH, select(used, gy, 0.0))
    _add(scratch, TO_MEANS + 2 * WIDTH, select(used, gz, 0.0))


@part
def _through_shape(scratch, inverse):
    """From TO_SHAPE to TO_SCALES and TO_QUATS; inverse: 1/length of the quaternions."""
    w, x, y, z = load_all(scratch, QUATS, FOUR)
    R = rotation(w, x, y, z)
    g0, g1, g2, g3, g4, g5, g6, g7, g8 = load_all(scratch, TO_SHAPE, NINE)
    to_scales = (
        fma(g0, R[0], fma(g3, R[3], g6 * R[6])),
        fma(g1, R[1], fma(g4, R[4], g7 * R[7])),
        fma(g2, R[2], fma(g5, R[5], g8 * R[8])),
    )
    store_all(scratch, TO_SCALES, to_scales)
    sx, sy, sz = load_all(scratch, SCALES, THREE)
    r0, r1, r2, r3, r4, r5 = g0 * sx, g1 * sy, g2 * sz, g3 * sx, g4 * sy, g5 * sz
    r6, r7, r8 = g6 * sx, g7 * sy, g8 * sz
    dw = fma(x, r7 - r5, fma(y, r2 - r6, z * (r3 - r1)))
    dx = fma(y, r1 + r3, fma(z, r2 + r6, fma(w, r7 - r5, x * (r4 + r8) * -2.0)))
    dy = fma(x, r1 + r3, fma(z, r5 + r7, fma(w, r2 - r6, y * (r0 + r8) * -2.0)))
    dz = fma(x, r2 + r6, fma(y, r5 + r7, fma(w, r3 - r1, z * (r0 + r4) * -2.0)))
    # the length of a quaternion has no effect, so its gradient is orthogonal to it
    along = fma(w, dw, fma(x, dx, fma(y, dy, z * dz)))
    twice = inverse * 2.0
    across = (dw - along * w, dx - along * x, dy - along * y, dz - along * z)
    store_all(scratch, TO_QUATS, (across[0] * twice, across[1] * twice, across[2] * twice, across[3] * twice))


@kernel
def unproject(first, last, splats, views, settings, geometry, slots, per_camera, shape_wanted, gradients):
    """Items are groups of WIDTH Gaussians: adds the gradients of their slots in a fixed order and propagates them through
    `project`.

    Reads `slots` (Slots) and writes `gradients` (Gradients). per_camera: whether each camera has its own features.
    Without shape_wanted only the features' gradient is computed.
    """
    cameras, starts = views.cameras, slots.starts
    g_features = gradients.features
    channels = slots.values.shape[1] - GEOMETRY
    count = splats.means.shape[0]
    scratch = np.zeros(SIZE, np.float64)
    rows = np.zeros((WIDTH, (slots.values.shape[1] + WIDTH - 1) // WIDTH * WIDTH), np.float64)
    zero = splat(scratch, 0.0)
    for group in range(first, last):
        start = group * WIDTH
        end = min(start + WIDTH, count)
        inverse = zero
        if shape_wanted:
            inverse = load_group(scratch, splats, start, end)
            for at in range(TO_SHAPE, USED, WIDTH):
                store(scratch, at, zero)
        for b in range(cameras.shape[0]):
            row = b * count
            if starts[row + start] == starts[row + end]:
                continue
            _sum_slots(scratch, rows, slots, row + start, row + end)
            into = row if per_camera else 0
            for k in range(channels):
                for n in range(start, end):
                    g_features[into + n, k] += rows[n - start, GEOMETRY + k]
            if shape_wanted:
                gather_rows(scratch, ELLIPSE, geometry, row + start, row + end, SIX)
                _add_camera(scratch, cameras[b], views, settings)
                scatter_rows(gradients.means2d, row + start, row + end, TWO, scratch, TO_MEANS2D)
        if shape_wanted:
            _through_shape(scratch, inverse)
            scatter_rows(gradients.means, start, end, THREE, scratch, TO_MEANS)
            scatter_rows(gradients.quats, start, end, FOUR, scratch, TO_QUATS)
            scatter_rows(gradients.scales, start, end, THREE, scratch, TO_SCALES)
            for n in range(start, end):
                gradients.opacities[n] = scratch[TO_OPACITY + n - start]
