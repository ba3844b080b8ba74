"""Which Gaussian touches which 4×4 block of which tile, and each tile's list in depth order."""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np

from ...kernels.blocks import BLOCKS
from ...kernels.build import kernel
from ...kernels.simd import bits, fma, load, prefetch, select, splat
from .groups import LOG2_255, TILE

# Gaussians that are loaded in advance: neighbors in depth are far from each other in memory
AHEAD = 16


@kernel
def cover(first, last, ellipses, views, starts, masks, slot_tiles):
    """Items are (camera, Gaussian): fills masks [S] uint16, bit k set where alpha may reach 1/255 in block k, and
    slot_tiles [S] int32, see `TileLists`.

    The quadratic's minimum over a rectangle lies on the edges that face the center; a block counts if log2 alpha at the
    minimum is above −log2 255, with a margin for rounding. `ellipses` are Ellipses; starts [B·N + 1]: first slots.
    """
    geometry, tiles = ellipses.geometry, ellipses.tiles
    left = np.empty(BLOCKS, geometry.dtype)
    top = np.empty(BLOCKS, geometry.dtype)
    for k in range(BLOCKS):
        left[k] = (k & 3) * 4 + 0.5
        top[k] = (k >> 2) * 4 + 0.5
    zero = splat(geometry, 0.0)
    count = geometry.shape[0] // views.cameras.shape[0]
    tiles_x, tiles_y = (views.width + TILE - 1) // TILE, (views.height + TILE - 1) // TILE
    b = first // count if count else 0
    for g in range(first, last):
        if g == (b + 1) * count:
            b += 1
        slot = starts[g]
        if slot == starts[g + 1]:
            continue
        mx, my = geometry[g, 0], geometry[g, 1]
        a, bb, c = geometry[g, 2], geometry[g, 3], geometry[g, 4]
        limit = geometry[g, 5] + LOG2_255 + 1e-3
        slope_y, slope_x = -0.5 * bb / c, -0.5 * bb / a
        for ty in range(tiles[g, 1], tiles[g, 3]):
            y0 = load(top, 0) + (ty * TILE - np.float64(my))
            y1 = y0 + 3.0
            near_y = select(y0 >= 0.0, y0, select(y1 <= 0.0, y1, zero))
            for tx in range(tiles[g, 0], tiles[g, 2]):
                x0 = load(left, 0) + (tx * TILE - np.float64(mx))
                x1 = x0 + 3.0
                near_x = select(x0 >= 0.0, x0, select(x1 <= 0.0, x1, zero))
                # the minimum on the vertical edge that faces the center
                y = near_x * slope_y
                y = select(y >= y0, y, y0)
                y = select(y <= y1, y, y1)
                x = near_y * slope_x
                x = select(x >= x0, x, x0)
                x = select(x <= x1, x, x1)
                on_x = fma(near_x * a, near_x, fma(near_x * bb, y, y * y * c))
                on_y = fma(x * a, x, fma(x * bb, near_y, near_y * near_y * c))
                slot_tiles[slot] = (b * tiles_y + ty) * tiles_x + tx
                masks[slot] = bits(select(on_x <= on_y, on_x, on_y) <= limit)
                slot += 1


@kernel
def bin_tiles(first, last, bands, views, order, starts, lists):
    """Items are (camera, band of tile rows). The first pass (entries empty) counts each tile's Gaussians in lists.ends
    [B·tiles]; the second, with ends turned into first places, writes entries and slots [total] and moves ends on.

    A Gaussian is written only if its mask is not empty, so tiles do not list Gaussians without effect.
    `order` is a DepthOrder, `lists` are TileLists; starts [B·N + 1]: first slots.
    """
    ids, counts = order.ids, order.counts
    ends, entries, entry_slots, masks, tiles = (
        lists.ends,
        lists.entries,
        lists.slots,
        lists.masks,
        lists.tiles,
    )
    width, height, count = views.width, views.height, ids.shape[1]
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for item in range(first, last):
        b = item // bands
        band = item - b * bands
        begin = (b * tiles_y + band * tiles_y // bands) * tiles_x
        end = (b * tiles_y + (band + 1) * tiles_y // bands) * tiles_x
        if entries.shape[0] == 0:
            # counts do not depend on depths: memory is read in order
            for slot in range(starts[b * count], starts[(b + 1) * count]):
                if masks[slot] != 0 and begin <= tiles[slot] < end:
                    ends[tiles[slot]] += 1
            continue
        for rank in range(counts[b]):
            if rank + AHEAD < counts[b]:
                prefetch(starts, b * count + ids[b, rank + AHEAD])
                slot = starts[b * count + ids[b, rank + AHEAD // 2]]
                prefetch(masks, slot)
                prefetch(tiles, slot)
            g = b * count + ids[b, rank]
            # a Gaussian's slots are in the order of their tiles
            if tiles[starts[g]] >= end or tiles[starts[g + 1] - 1] < begin:
                continue
            for slot in range(starts[g], starts[g + 1]):
                tile = tiles[slot]
                if masks[slot] != 0 and begin <= tile < end:
                    place = ends[tile]
                    ends[tile] = place + 1
                    entries[place] = g
                    entry_slots[place] = slot
