"""Everything before compositing: projection, depth order, tile lists."""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels.build import launch
from ...kernels.threads import threads_now
from .projection import GEOMETRY, TILE, order, project
from .structs import DepthOrder, Ellipses, Settings, Splats, TileLists, Views
from .tiles import bin_tiles, cover

# minimum work for a thread, about 0.3 ms: Gaussians, and entries of tile lists
SOME_GAUSSIANS, SOME_ENTRIES = 4096, 8192


@dataclass(eq=False)
class Plan:
    """Projected Gaussians and tile lists of a call; kept for the backward pass."""

    splats: Splats
    views: Views
    settings: Settings
    geometry: np.ndarray  # [B·N, 6]
    radii: np.ndarray  # [B·N] int32
    positions: np.ndarray  # [B, N] int64: place in `slot_starts`, -1 where not drawn
    slot_starts: np.ndarray  # [places + 1] int64
    lists: TileLists

    @property
    def tiles_at_once(self) -> int:
        """Number of tiles with SOME_ENTRIES entries on average."""
        return max(1, len(self.lists.ends) * SOME_ENTRIES // max(1, len(self.lists.entries)))


def make_plan(splats: Splats, views: Views, settings: Settings) -> Plan:
    """Project, sort, and list each tile's Gaussians."""
    cameras, count = len(views.cameras), len(splats.means)
    ellipses = _project(splats, views, settings)
    ordered, slots = _sort(ellipses, cameras, count)
    masks = np.empty(slots, np.uint16)
    positions = np.full(cameras * count, -1, np.int64)
    launch(cover, cameras * count, SOME_GAUSSIANS, ordered, ellipses, masks, positions)
    lists = _bin(ordered, ellipses.tiles, masks, views)
    return Plan(
        splats,
        views,
        settings,
        ellipses.geometry,
        ellipses.radii,
        positions.reshape(cameras, count),
        ordered.starts,
        lists,
    )


def _project(splats: Splats, views: Views, settings: Settings) -> Ellipses:
    items, dtype = len(views.cameras) * len(splats.means), splats.means.dtype
    ellipses = Ellipses(
        geometry=np.empty((items, GEOMETRY), dtype),
        depths=np.empty(items, dtype),
        radii=np.empty(items, np.int32),
        tiles=np.empty((items, 4), np.int32),
    )
    launch(project, items, SOME_GAUSSIANS, splats, views, settings, ellipses)
    return ellipses


def _sort(ellipses: Ellipses, views: int, count: int) -> tuple[DepthOrder, int]:
    """The visible Gaussians by depth, and the number of slots S."""
    ids = np.empty((views, count), np.int32)
    local = np.empty((views, count + 1), np.int64)
    counts = np.empty(views, np.int64)
    keys = ellipses.depths.view(np.uint32 if ellipses.depths.itemsize == 4 else np.uint64)
    tiles = ellipses.tiles.reshape(views, count, 4)
    launch(order, views, 1, keys.reshape(views, count), tiles, ids, local, counts)
    bases = np.concatenate([[0], np.cumsum(counts)])
    starts = np.zeros(int(bases[-1]) + 1, np.int64)
    total = 0
    for b in range(views):
        n = int(counts[b])
        starts[bases[b] : bases[b] + n + 1] = local[b, : n + 1] + total
        total += int(local[b, n])
    return DepthOrder(ids, counts, bases, starts), total


def _bin(ordered: DepthOrder, tiles: np.ndarray, masks: np.ndarray, views: Views) -> TileLists:
    """The list of each tile, counted in a first pass and written in a second."""
    cameras, count = ordered.ids.shape
    tiles_x, tiles_y = -(-views.width // TILE), -(-views.height // TILE)
    bands = min(tiles_y, 2 * threads_now()) if count > 4 * SOME_GAUSSIANS else 1
    ends = np.zeros(cameras * tiles_x * tiles_y, np.int64)
    lists = TileLists(ends, np.empty(0, np.int32), np.empty(0, np.int64), masks)
    launch(bin_tiles, cameras * bands, 1, bands, views, ordered, tiles, lists)
    sizes = ends.copy()
    np.cumsum(sizes, out=ends)
    total = int(ends[-1])
    lists = TileLists(ends, np.empty(total, np.int32), np.empty(total, np.int64), masks)
    ends -= sizes
    if total:
        launch(bin_tiles, cameras * bands, 1, bands, views, ordered, tiles, lists)
    return lists
