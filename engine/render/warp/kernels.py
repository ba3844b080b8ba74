"""Warp kernels: tile lists, compositing and its gradients. One source for CUDA and the CPU.

A block has the BLOCK threads of one tile, and each thread has PIXELS // BLOCK of its pixels: one on a GPU, all of them on a CPU,
where a block is one thread. Gradients of a Gaussian in a tile are summed over the tile and written to a row of their own, then
summed over its tiles: no atomic additions, so that the bits do not depend on the order of the threads.

Source: 3DGS (Kerbl et al. 2023), eq. 3. The backward pass goes from front to back too: what is behind is the total less
what is in front.
"""
# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false, reportInvalidTypeForm=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportReturnType=false
# Warp reads annotations as objects, so they must not be postponed; float(1.0) is a variable to it, 1.0 a constant
# ruff: noqa: UP018

import functools
from typing import Any

import warp as wp

# pixels along a tile's side, and in a tile
TILE = 16
PIXELS = TILE * TILE
# x, y; conic xx, xy, yy; opacity
GEOMETRY = 6
# smaller alphas are skipped, and a pixel stops before its transmittance would fall to STOP; see torch_reference.py
THRESHOLD = 1.0 / 255.0
STOP = 1e-4
# exponents within this of the limit are kept when lists are made, and decided per pixel
MARGIN = 1e-3
# pixels added to a Gaussian's rectangle, as in the reference
BEYOND = 0.01
# entries between two looks at whether all pixels of a tile have stopped
LOOK_EVERY = 32

wp.set_module_options({"enable_backward": False})


@wp.func
def least_on_edge(lead: float, cross: float, follow: float, at: float, low: float, high: float):
    """Least ½(lead·at² + follow·t²) + cross·at·t for t in low..high."""
    t = wp.clamp(-cross * at / follow, low, high)
    return 0.5 * (lead * at * at + follow * t * t) + cross * at * t


@wp.func
def reaches(center: wp.vec2, conic: wp.vec3, limit: float, tile_x: int, tile_y: int):
    """Whether the exponent falls to `limit` at a pixel center of a tile: its minimum lies on the edges that face the center."""
    x0 = float(tile_x * TILE) + 0.5 - center[0]
    y0 = float(tile_y * TILE) + 0.5 - center[1]
    x1 = x0 + float(TILE - 1)
    y1 = y0 + float(TILE - 1)
    near_x = wp.clamp(0.0, x0, x1)
    near_y = wp.clamp(0.0, y0, y1)
    on_x = least_on_edge(conic[0], conic[1], conic[2], near_x, y0, y1)
    on_y = least_on_edge(conic[2], conic[1], conic[0], near_y, x0, x1)
    return wp.min(on_x, on_y) <= limit + MARGIN


@wp.func
def tile_box(center: wp.vec2, reach: wp.vec2, tiles_x: int, tiles_y: int):
    """First and last tiles (x0, y0, x1, y1; the last ones are not in it) of the rectangle center ± reach, and a little."""
    side = float(TILE)
    low = (center - reach - wp.vec2(BEYOND)) / side
    high = (center + reach + wp.vec2(BEYOND)) / side
    x0 = wp.clamp(int(wp.floor(low[0])), 0, tiles_x)
    y0 = wp.clamp(int(wp.floor(low[1])), 0, tiles_y)
    x1 = wp.clamp(int(wp.floor(high[0])) + 1, 0, tiles_x)
    y1 = wp.clamp(int(wp.floor(high[1])) + 1, 0, tiles_y)
    return wp.vec4i(x0, y0, x1, y1)


@wp.func
def tile_place(tile: int, tiles_x: int, tiles_y: int):
    """The view of a tile, and the column and row of its first pixel."""
    view = tile // (tiles_x * tiles_y)
    return wp.vec3i(view, (tile % tiles_x) * TILE, ((tile // tiles_x) % tiles_y) * TILE)


@wp.kernel
def count_tiles(
    centers: wp.array(dtype=wp.vec2),
    conics: wp.array(dtype=wp.vec3),
    opacities: wp.array(dtype=float),
    reach: wp.array(dtype=wp.vec2),
    radii: wp.array(dtype=wp.int32),
    tiles_x: int,
    tiles_y: int,
    counts: wp.array(dtype=wp.int64),
):
    """Each Gaussian's number of tiles."""
    g = wp.tid()
    found = wp.int64(0)
    if radii[g] > 0:
        limit = wp.log(opacities[g] / THRESHOLD)
        box = tile_box(centers[g], reach[g], tiles_x, tiles_y)
        for ty in range(box[1], box[3]):
            for tx in range(box[0], box[2]):
                if reaches(centers[g], conics[g], limit, tx, ty):
                    found += wp.int64(1)
    counts[g] = found


@wp.kernel
def list_tiles(
    centers: wp.array(dtype=wp.vec2),
    conics: wp.array(dtype=wp.vec3),
    opacities: wp.array(dtype=float),
    reach: wp.array(dtype=wp.vec2),
    radii: wp.array(dtype=wp.int32),
    depths: wp.array(dtype=float),
    starts: wp.array(dtype=wp.int64),
    count: int,
    tiles_x: int,
    tiles_y: int,
    keys: wp.array(dtype=wp.int64),
    gaussians: wp.array(dtype=wp.int32),
):
    """Entries of each Gaussian from starts[g] on: a key (camera and tile, then depth), and the Gaussian."""
    g = wp.tid()
    if radii[g] > 0:
        # bits of positive floats are in their order
        depth = wp.int64(wp.cast(depths[g], wp.int32))
        first = (g // count) * tiles_x * tiles_y
        place = starts[g]
        limit = wp.log(opacities[g] / THRESHOLD)
        box = tile_box(centers[g], reach[g], tiles_x, tiles_y)
        for ty in range(box[1], box[3]):
            for tx in range(box[0], box[2]):
                if reaches(centers[g], conics[g], limit, tx, ty):
                    tile = wp.int64(first + ty * tiles_x + tx)
                    keys[place] = (tile << wp.int64(32)) | depth
                    gaussians[place] = g
                    place += wp.int64(1)


@functools.cache
def compositing(channels: int, block: int) -> tuple[Any, Any, Any]:
    """Kernels for a number of channels and of threads in a block: composite, its gradients in slots, and their sums."""
    each = PIXELS // block
    colors = wp.types.vector(length=channels, dtype=float)
    slot = wp.types.vector(length=GEOMETRY + channels, dtype=float)
    states = wp.types.vector(length=each, dtype=float)
    gradients = wp.types.matrix(shape=(each, channels), dtype=float)

    @wp.kernel(module="unique", enable_backward=False)
    def composite(
        ends: wp.array(dtype=wp.int64),
        entries: wp.array(dtype=wp.int32),
        centers: wp.array(dtype=wp.vec2),
        conics: wp.array(dtype=wp.vec3),
        opacities: wp.array(dtype=float),
        features: wp.array(dtype=colors),
        max_alpha: float,
        tiles_x: int,
        tiles_y: int,
        image: wp.array(dtype=colors, ndim=3),
        transmittance: wp.array(dtype=float, ndim=3),
    ):
        """A thread is a pixel: PIXELS of them are a tile."""
        thread = wp.tid()
        tile = thread // PIXELS
        pixel = thread % PIXELS
        place = tile_place(tile, tiles_x, tiles_y)
        view = place[0]
        column = place[1] + pixel % TILE
        row = place[2] + pixel // TILE
        if row < image.shape[1] and column < image.shape[2]:
            x = float(column) + 0.5
            y = float(row) + 0.5
            left = float(1.0)
            total = colors()
            for i in range(int(ends[tile]), int(ends[tile + 1])):
                g = entries[i]
                dx = x - centers[g][0]
                dy = y - centers[g][1]
                conic = conics[g]
                sigma = 0.5 * (conic[0] * dx * dx + conic[2] * dy * dy) + conic[1] * dx * dy
                alpha = wp.min(opacities[g] * wp.exp(-sigma), max_alpha)
                if alpha >= THRESHOLD:
                    if left * (1.0 - alpha) <= STOP:
                        break
                    total += features[g] * (alpha * left)
                    left *= 1.0 - alpha
            image[view, row, column] = total
            transmittance[view, row, column] = left

    @wp.kernel(module="unique", enable_backward=False)
    def composite_backward(
        ends: wp.array(dtype=wp.int64),
        entries: wp.array(dtype=wp.int32),
        order: wp.array(dtype=wp.int64),
        centers: wp.array(dtype=wp.vec2),
        conics: wp.array(dtype=wp.vec3),
        opacities: wp.array(dtype=float),
        features: wp.array(dtype=colors),
        max_alpha: float,
        tiles_x: int,
        tiles_y: int,
        image: wp.array(dtype=colors, ndim=3),
        transmittance: wp.array(dtype=float, ndim=3),
        g_image: wp.array(dtype=colors, ndim=3),
        g_transmittance: wp.array(dtype=float, ndim=3),
        slots: wp.array(dtype=slot),
    ):
        """A block is a tile; it writes a row of `slots` for each of its entries, in the order before sorting."""
        tile, lane = wp.tid()
        place = tile_place(tile, tiles_x, tiles_y)
        view = place[0]
        column = place[1]
        row = place[2]
        # transmittance so far, 0 once the pixel has stopped or lies outside the image
        left = states()
        # of the loss: by what was composited so far, by all of it, and by the transmittance in the end
        front = states()
        total = states()
        final = states()
        upstream = gradients()
        for p in range(each):
            pixel = lane + p * block
            py = row + pixel // TILE
            px = column + pixel % TILE
            if py < image.shape[1] and px < image.shape[2]:
                left[p] = 1.0
                g_color = g_image[view, py, px]
                for c in range(channels):
                    upstream[p, c] = g_color[c]
                total[p] = wp.dot(image[view, py, px], g_color)
                final[p] = transmittance[view, py, px] * g_transmittance[view, py, px]
        first = int(ends[tile])
        last = int(ends[tile + 1])
        for i in range(first, last):
            if (i - first) % LOOK_EVERY == LOOK_EVERY - 1:
                going = float(0.0)
                for p in range(each):
                    going = wp.max(going, left[p])
                if wp.tile_extract(wp.tile_max(wp.tile(going)), 0) <= 0.0:
                    break
            g = entries[i]
            center = centers[g]
            conic = conics[g]
            opacity = opacities[g]
            color = features[g]
            sums = slot()
            for p in range(each):
                pixel = lane + p * block
                dx = float(column + pixel % TILE) + 0.5 - center[0]
                dy = float(row + pixel // TILE) + 0.5 - center[1]
                sigma = 0.5 * (conic[0] * dx * dx + conic[2] * dy * dy) + conic[1] * dx * dy
                falloff = wp.exp(-sigma)
                raw = opacity * falloff
                alpha = wp.min(raw, max_alpha)
                if left[p] > 0.0 and alpha >= THRESHOLD:
                    if left[p] * (1.0 - alpha) <= STOP:
                        left[p] = 0.0
                    else:
                        weight = alpha * left[p]
                        shown = float(0.0)
                        for c in range(channels):
                            shown += upstream[p, c] * color[c]
                            sums[GEOMETRY + c] += weight * upstream[p, c]
                        front[p] += weight * shown
                        if raw < max_alpha:
                            behind = total[p] - front[p] + final[p]
                            g_alpha = left[p] * shown - behind / (1.0 - alpha)
                            g_sigma = -alpha * g_alpha
                            sums[0] -= g_sigma * (conic[0] * dx + conic[1] * dy)
                            sums[1] -= g_sigma * (conic[1] * dx + conic[2] * dy)
                            sums[2] += 0.5 * g_sigma * dx * dx
                            sums[3] += g_sigma * dx * dy
                            sums[4] += 0.5 * g_sigma * dy * dy
                            sums[5] += falloff * g_alpha
                        left[p] *= 1.0 - alpha
            wp.tile_store(slots, wp.tile_sum(wp.tile(sums, preserve_type=True)), offset=int(order[i]))

    @wp.kernel(module="unique", enable_backward=False)
    def sum_slots(starts: wp.array(dtype=wp.int64), slots: wp.array(dtype=slot), sums: wp.array(dtype=slot)):
        """Sums of each Gaussian's rows; starts has one more than there are Gaussians."""
        g = wp.tid()
        total = slot()
        for i in range(int(starts[g]), int(starts[g + 1])):
            total += slots[i]
        sums[g] = total

    return composite, composite_backward, sum_slots
