"""Everything before compositing: projection, depth order, tile lists."""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels.build import launch
from ...kernels.simd import WIDTH
from ...kernels.threads import threads_now
from .groups import GEOMETRY, TILE
from .projection import order, project
from .structs import DepthOrder, Ellipses, Settings, Splats, TileLists, Views
from .tiles import bin_tiles, cover

# minimum work for a thread, about 0.3 ms: Gaussians, and entries of tile lists
SOME_GAUSSIANS, SOME_ENTRIES = 4096, 8192


def groups_of(count: int) -> int:
    """Number of groups of WIDTH Gaussians, of which the last one may be smaller."""
    return -(-count // WIDTH)


@dataclass(eq=False)
class Plan:
    """Projected Gaussians and tile lists of a call; kept for the backward pass."""

    splats: Splats
    views: Views
    settings: Settings
    geometry: np.ndarray  # [B·N, 6]
    means2d: np.ndarray  # [B·N, 2]
    radii: np.ndarray  # [B·N] int32
    slot_starts: np.ndarray  # [B·N + 1] int64: first slot of each Gaussian
    lists: TileLists

    @property
    def tiles_at_once(self) -> int:
        """Number of tiles with SOME_ENTRIES entries on average."""
        return max(1, len(self.lists.ends) * SOME_ENTRIES // max(1, len(self.lists.entries)))


def make_plan(splats: Splats, views: Views, settings: Settings) -> Plan:
    """Project, sort, and list each tile's Gaussians."""
    ellipses = _project(splats, views, settings)
    items = len(ellipses.tiles)
    ordered = _sort(ellipses, len(views.cameras))
    starts = _slot_starts(ellipses.tiles)
    masks, tiles = np.empty(int(starts[-1]), np.uint16), np.empty(int(starts[-1]), np.int32)
    launch(cover, items, SOME_GAUSSIANS, ellipses, views, starts, masks, tiles)
    lists = _bin(ordered, starts, masks, tiles, views)
    return Plan(splats, views, settings, ellipses.geometry, ellipses.means2d, ellipses.radii, starts, lists)


def _project(splats: Splats, views: Views, settings: Settings) -> Ellipses:
    items, dtype = len(views.cameras) * len(splats.means), splats.means.dtype
    ellipses = Ellipses(
        geometry=np.empty((items, GEOMETRY), dtype),
        means2d=np.empty((items, 2), dtype),
        depths=np.empty(items, dtype),
        radii=np.empty(items, np.int32),
        tiles=np.empty((items, 4), np.int32),
    )
    launch(project, groups_of(len(splats.means)), SOME_GAUSSIANS // WIDTH, splats, views, settings, ellipses)
    return ellipses


def _sort(ellipses: Ellipses, views: int) -> DepthOrder:
    """The visible Gaussians by depth."""
    count = len(ellipses.depths) // views
    ids, counts = np.empty((views, count), np.int32), np.empty(views, np.int64)
    keys = ellipses.depths.view(np.uint32 if ellipses.depths.itemsize == 4 else np.uint64)
    tiles = ellipses.tiles.reshape(views, count, 4)
    launch(order, views, 1, keys.reshape(views, count), tiles, ids, counts)
    return DepthOrder(ids, counts)


def _slot_starts(tiles: np.ndarray) -> np.ndarray:
    """First slot of each Gaussian of `tiles` [B·N, 4], and the number of slots S."""
    starts = np.zeros(len(tiles) + 1, np.int64)
    sizes = (tiles[:, 2] - tiles[:, 0]) * (tiles[:, 3] - tiles[:, 1])
    np.cumsum(sizes, out=starts[1:])
    return starts


def _bin(
    ordered: DepthOrder, starts: np.ndarray, masks: np.ndarray, tiles: np.ndarray, views: Views
) -> TileLists:
    """The list of each tile, counted in a first pass and written in a second."""
    cameras, count = ordered.ids.shape
    tiles_x, tiles_y = -(-views.width // TILE), -(-views.height // TILE)
    bands = min(tiles_y, 2 * threads_now()) if count > 4 * SOME_GAUSSIANS else 1
    ends = np.zeros(cameras * tiles_x * tiles_y, np.int64)
    lists = TileLists(ends, np.empty(0, np.int32), np.empty(0, np.int64), masks, tiles)
    launch(bin_tiles, cameras * bands, 1, bands, views, ordered, starts, lists)
    sizes = ends.copy()
    np.cumsum(sizes, out=ends)
    total = int(ends[-1])
    lists = TileLists(ends, np.empty(total, np.int32), np.empty(total, np.int64), masks, tiles)
    ends -= sizes
    if total:
        launch(bin_tiles, cameras * bands, 1, bands, views, ordered, starts, lists)
    return lists
