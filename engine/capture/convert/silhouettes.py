"""Masks of one frame made to agree: what only one camera takes for the subject (a shadow, a reflection) goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from ...geometry.carving import carve, in_picture
from ...geometry.pose_adjustment import Sighting, triangulate
from ...scene.cameras import Cameras

# its types cannot tell a label array from a count, and its parts are loaded when they are used
untyped: Any = scipy
Masks = list[NDArray[np.bool_]]
# a side of the cube that is carved
CELLS = 72


def agreeing_masks(cameras: Cameras, masks: Masks) -> Masks:
    """V masks [H, W] cut to the visual hull that all views but one allow, and their holes filled where it is solid.

    Laurentini 1994, with one dissenting view forgiven from four views on, so that a hole in one mask does not spread
    to the others. The cube that is carved lies around the masks' common middle. Fewer than three views with a subject,
    or masks without a common body, come back as they are.
    """
    cube = _cube(cameras, masks)
    if cube is None:
        return masks
    middle, half = cube
    axis = torch.from_numpy((np.arange(CELLS) + 0.5) / CELLS * 2 - 1)
    cells = torch.from_numpy(middle) + half * torch.cartesian_prod(axis, axis, axis)
    reach = [_half_a_cell(cameras, view, middle, 2 * half / CELLS) for view in range(len(masks))]
    grown = ((v, torch.from_numpy(_dilated(mask, reach[v]))) for v, mask in enumerate(masks))
    carved = carve(cameras, grown, cells, forgiven=1)
    body = carved.cells[(carved.seen >= 3) & (carved.missed <= (carved.seen >= 4))]
    if len(body) < 8:
        return masks
    result: Masks = []
    for view, mask in enumerate(masks):
        column, row, seen = (each.numpy() for each in in_picture(cameras, body, view))
        hull = np.zeros(mask.shape, dtype=bool)
        hull[row[seen], column[seen]] = True
        hull = _dilated(hull, reach[view] + 1)
        holes = untyped.ndimage.binary_fill_holes(mask) & ~mask
        kept = (mask & hull) | (holes & untyped.ndimage.binary_erosion(hull, iterations=reach[view] + 1))
        result.append(_without_crumbs(kept))
    return result


def _half_a_cell(cameras: Cameras, view: int, middle: NDArray[np.float64], step: float) -> int:
    """Half the side of a cell at `middle` in pixels of one view, at least 1."""
    distance = float((cameras.centers[view].double() - torch.from_numpy(middle)).norm())
    return max(1, round(float(cameras.K[view, 0, 0]) * step / distance / 2))


def _dilated(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return untyped.ndimage.binary_dilation(mask, iterations=pixels)


def _without_crumbs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without pieces of less than a tenth of the largest: what is left of shadows that were cut."""
    labels, count = untyped.ndimage.label(mask)
    if count < 2:
        return mask
    areas = np.bincount(labels.ravel())[1:]
    return np.isin(labels, 1 + np.flatnonzero(areas >= areas.max() / 10))


def _cube(cameras: Cameras, masks: Masks) -> tuple[NDArray[np.float64], float] | None:
    """Middle [3] and half side of a cube around the subject: from the masks' middles and largest half extents."""
    middles: dict[int, tuple[float, float]] = {}
    extents: dict[int, float] = {}
    for view, mask in enumerate(masks):
        y, x = np.nonzero(mask)
        if len(x):
            middles[view] = (float(np.median(x)) + 0.5, float(np.median(y)) + 0.5)
            extents[view] = float(np.percentile(np.hypot(x - np.median(x), y - np.median(y)), 99))
    if len(middles) < 3:
        return None
    middle = triangulate(cameras, Sighting("subject", middles))
    depths = cameras.centers.double().numpy() - middle
    sizes = [extents[v] * float(np.linalg.norm(depths[v])) / float(cameras.K[v, 0, 0]) for v in middles]
    half = 1.3 * float(np.median(sizes))
    return (middle, half) if np.isfinite(half) and half > 0 else None
