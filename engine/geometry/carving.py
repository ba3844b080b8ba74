"""Space carved by silhouettes (Laurentini 1994, "The visual hull concept for silhouette-based image understanding")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene.cameras import Cameras


@dataclass(frozen=True, eq=False)
class Carved:
    """The cells that remain after carving."""

    cells: Tensor  # [Q, 3]
    kept: Tensor  # [Q] their indices among the given cells
    seen: Tensor  # [Q] by how many views
    missed: Tensor  # [Q] by how many views it was seen outside their masks
    views: int  # number of views that were used


def in_picture(cameras: Cameras, points: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Columns [P] and rows [P] (long) of the pixels that `points` [P, 3] fall on, and whether the view sees them [P].

    Columns and rows of points that are not seen are clamped to the image.
    """
    pixels, depth = cameras.project(points, view)
    width, height = cameras.sizes[view]
    # NaN and infinite pixels are behind the camera or outside the image
    column, row = pixels.nan_to_num(-1.0, -1.0, -1.0).clamp(-1, max(width, height)).floor().long().unbind(-1)
    seen = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return column.clamp(0, width - 1), row.clamp(0, height - 1), seen


def shows_all(mask: Tensor) -> bool:
    """Whether a mask [H, W] bool keeps clear of the image's border, so that the view probably shows the whole subject."""
    border = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return bool(mask.any()) and not any(bool(edge.any()) for edge in border)


def carve(cameras: Cameras, masks: Iterable[tuple[int, Tensor]], cells: Tensor, forgiven: int = 0) -> Carved:
    """Those of `cells` [P, 3] that at most `forgiven` views rule out.

    A view that does not have a cell in its image does not count for it. But where as many of these views show all of the
    subject (`shows_all`) as views have the cell in their image, it is ruled out: few views have hulls of the parts of the
    subject that others do not see, in places where it is not.

    Args:
        cameras: All views.
        masks: (view, mask [H, W] bool), one after another.
        cells: Points in world units.
        forgiven: Number of views that may rule a cell out.
    """
    points, kept = cells, torch.arange(len(cells), device=cells.device)
    seen, missed, absent = torch.zeros(3, len(cells), dtype=torch.int16, device=cells.device)
    views = 0
    for view, mask in masks:
        column, row, hit = in_picture(cameras, points, view)
        seen = seen + hit
        missed = missed + (hit & ~mask[row, column])
        absent = absent + (~hit & shows_all(mask))
        # other views need not check cells that are already ruled out
        left = (missed <= forgiven).nonzero().flatten()
        points, kept, seen, missed, absent = (values[left] for values in (points, kept, seen, missed, absent))
        views += 1
    left = ((absent < seen) | (absent == 0)).nonzero().flatten()
    return Carved(points[left], kept[left], seen[left], missed[left], views)


def hull_surface(cells: Tensor) -> Tensor:
    """Those of a regular grid's cells [P, 3] that miss one of their six neighbors. The spacing of its axes may differ."""
    if len(cells) < 8:
        return cells
    # from 1: empty cells around the grid give every cell six neighbors
    places = torch.stack([_places(cells[:, axis]) for axis in range(3)], dim=1) + 1
    filled = torch.zeros((places.amax(dim=0) + 2).tolist(), dtype=torch.bool)
    filled[tuple(places.T)] = True
    steps = torch.cat([torch.eye(3, dtype=torch.long), -torch.eye(3, dtype=torch.long)])
    neighbors = torch.stack([filled[tuple((places + step).T)] for step in steps])
    return cells[~neighbors.all(dim=0)]


def _places(values: Tensor) -> Tensor:
    """The indices [P] along one axis of a grid, from 0, of coordinates [P]."""
    planes = values.unique().double()
    if len(planes) == 1:
        return torch.zeros(len(values), dtype=torch.long)
    # rounding errors of one gap would add up, and some planes may be absent
    span = planes[-1] - planes[0]
    spacing = span / (span / torch.diff(planes).min()).round()
    return ((values.double() - planes[0]) / spacing).round().long()
