"""EWA splatting: the projection of Gaussians to ellipses, and the depth order.

Source: Zwicker et al. 2001, eq. 31; Kerbl et al. 2023, eq. 5. Conventions are gsplat 1.5's: the ray direction is clamped
at 1.3 fields of view inside the Jacobian, eps2d is added to the covariance's diagonal, Gaussians with opacity below 1/255
are dropped. All arithmetic is float64, whatever the arrays' type: it costs little and gains a digit.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from ...kernels.build import kernel
from ...kernels.functions import log2
from ...kernels.rows import scatter_rows
from ...kernels.simd import WIDTH, fma, load, root, round_down, round_up, select, store
from .groups import (
    ELLIPSE,
    FOUR,
    GEOMETRY,
    LOG2_255,
    LOG2E,
    OPACITY,
    SIX,
    TILE,
    TWO,
    bounded,
    camera_point,
    covariance,
    load_group,
    positive,
    rays,
)  # fmt: skip

# 3.33 standard deviations, squared
FURTHEST = 3.33 * 3.33

# ---- where vectors are in the scratch array, after those of groups.py
# depth, radius and four borders in tiles
DEPTH, RADIUS, BORDERS = ELLIPSE + GEOMETRY * WIDTH, ELLIPSE + 7 * WIDTH, ELLIPSE + 8 * WIDTH
SIZE = 32 * WIDTH


@kernel
def project(first, last, splats, views, settings, ellipses):
    """Items are groups of WIDTH Gaussians: fills `ellipses` (Ellipses) of all cameras from `splats` (Splats)."""
    cameras, width, height = views.cameras, float(views.width), float(views.height)
    near, far, eps2d = settings.near, settings.far, settings.eps2d
    geometry, depths, radii, tiles = ellipses.geometry, ellipses.depths, ellipses.radii, ellipses.tiles
    count = splats.means.shape[0]
    scratch = np.zeros(SIZE, np.float64)
    for group in range(first, last):
        start = group * WIDTH
        end = min(start + WIDTH, count)
        load_group(scratch, splats, start, end)
        for b in range(cameras.shape[0]):
            camera = cameras[b]
            x, y, z = camera_point(scratch, camera)
            seen = (z >= near) & (z <= far) & (z > 0.0)
            inverse = 1.0 / select(seen, z, 1.0)
            ray_x, ray_y = x * inverse, y * inverse
            u, v = fma(ray_x, camera[12], camera[14]), fma(ray_y, camera[13], camera[15])
            ray_x, ray_y = rays(ray_x, ray_y, camera, width, height)
            j00, j11 = inverse * camera[12], inverse * camera[13]
            xx, xy, yy = covariance(scratch, camera, j00, j11, ray_x, ray_y)
            blurred_x, blurred_y = xx + eps2d, yy + eps2d
            det = blurred_x * blurred_y - xy * xy
            seen = seen & (det > 0.0)
            inverse = 1.0 / select(seen, det, 1.0)
            opacity = load(scratch, OPACITY)
            if settings.antialiased:
                opacity = opacity * root(positive(xx * yy - xy * xy) * inverse)
            seen = seen & (opacity >= 1.0 / 255.0)
            log_opacity = log2(select(seen, opacity, 1.0))
            # squared, in standard deviations: where alpha falls below 1/255
            extent = (log_opacity + LOG2_255) * (2.0 / LOG2E)
            extent = bounded(extent, 0.0, FURTHEST)
            reach_x, reach_y = root(extent * blurred_x), root(extent * blurred_y)
            radius_x, radius_y = round_up(reach_x), round_up(reach_y)
            seen = seen & (u + radius_x > 0.0) & (u - radius_x < width)
            seen = seen & (v + radius_y > 0.0) & (v - radius_y < height)
            radius = select(radius_x >= radius_y, radius_x, radius_y)
            # pixel centers within reach; the margin covers rounding to float32
            x0, y0 = positive(round_up(u - reach_x - 0.51)), positive(round_up(v - reach_y - 0.51))
            x1, y1 = round_down(u + reach_x - 0.49), round_down(v + reach_y - 0.49)
            x1, y1 = select(x1 >= width - 1.0, width - 1.0, x1), select(y1 >= height - 1.0, height - 1.0, y1)
            drawn = seen & (x0 <= x1) & (y0 <= y1)
            store(scratch, ELLIPSE, select(seen, u, 0.0))
            store(scratch, ELLIPSE + WIDTH, select(seen, v, 0.0))
            store(scratch, ELLIPSE + 2 * WIDTH, select(seen, blurred_y * inverse * (0.5 * LOG2E), 0.0))
            store(scratch, ELLIPSE + 3 * WIDTH, select(seen, xy * inverse * -LOG2E, 0.0))
            store(scratch, ELLIPSE + 4 * WIDTH, select(seen, blurred_x * inverse * (0.5 * LOG2E), 0.0))
            store(scratch, ELLIPSE + 5 * WIDTH, select(seen, log_opacity, 0.0))
            store(scratch, DEPTH, select(seen, z, 0.0))
            store(scratch, RADIUS, select(seen, select(radius <= 2147483647.0, radius, 2147483647.0), 0.0))
            # the conversion to integers rounds down
            store(scratch, BORDERS, select(drawn, x0 * (1.0 / TILE), 0.0))
            store(scratch, BORDERS + WIDTH, select(drawn, y0 * (1.0 / TILE), 0.0))
            store(scratch, BORDERS + 2 * WIDTH, select(drawn, fma(x1, 1.0 / TILE, 1.0), 0.0))
            store(scratch, BORDERS + 3 * WIDTH, select(drawn, fma(y1, 1.0 / TILE, 1.0), 0.0))
            row = b * count
            scatter_rows(geometry, row + start, row + end, SIX, scratch, ELLIPSE)
            scatter_rows(ellipses.means2d, row + start, row + end, TWO, scratch, ELLIPSE)
            scatter_rows(tiles, row + start, row + end, FOUR, scratch, BORDERS)
            for n in range(start, end):
                depths[row + n] = scratch[DEPTH + n - start]
                radii[row + n] = scratch[RADIUS + n - start]


@kernel
def order(first, last, keys, tiles, ids, counts):
    """Items are cameras: sorts the Gaussians that touch a tile by depth (ties by index).

    keys [B, N] are depths read as integers (depths are positive, so both orders agree). A radix sort of 11 bits per pass;
    a pass in which all keys agree is skipped. Fills ids [B, N] and counts [B].
    """
    n = keys.shape[1]
    bits = keys.itemsize * 8
    for b in range(first, last):
        a, spare = np.empty(n, np.int32), np.empty(n, np.int32)
        seen = 0
        for i in range(n):
            if tiles[b, i, 2] > tiles[b, i, 0]:
                a[seen] = i
                seen += 1
        histogram = np.empty(2048, np.int64)
        for shift in range(0, bits, 11):
            histogram[:] = 0
            for i in range(seen):
                histogram[(keys[b, a[i]] >> shift) & 2047] += 1
            total, most = 0, 0
            for d in range(2048):
                here = histogram[d]
                most = max(most, here)
                histogram[d] = total
                total += here
            if most == seen:
                continue
            for i in range(seen):
                digit = (keys[b, a[i]] >> shift) & 2047
                spare[histogram[digit]] = a[i]
                histogram[digit] += 1
            a, spare = spare, a
        # not by slices: the text of the error that their assignment may raise takes two seconds to compile
        for i in range(seen):
            ids[b, i] = a[i]
        counts[b] = seen
