"""Masks of one moment made to agree: what only one camera takes for the subject (a shadow, a reflection) goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

from ...scene.cameras import Cameras
from .rig_adjust import Sighting, triangulate

ndimage: Any = scipy.ndimage  # its types cannot tell a label array from a count
Masks = list[NDArray[np.bool_]]
CELLS = 72  # a side of the cube that is carved


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
    axis = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    cells = middle + half * np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    step = 2 * half / CELLS
    votes, seen = np.zeros(len(cells), dtype=np.int8), np.zeros(len(cells), dtype=np.int8)
    pixels: list[NDArray[np.int64]] = []
    within: list[NDArray[np.bool_]] = []
    reach: list[int] = []  # half a cell in pixels
    for view, mask in enumerate(masks):
        at, depth = cameras.project(torch.from_numpy(cells), view)
        z = depth.numpy()
        with np.errstate(invalid="ignore"):
            whole = (
                np.floor(np.nan_to_num(at.numpy(), posinf=-1, neginf=-1)).clip(-1, 1 << 20).astype(np.int64)
            )
        height, width = mask.shape
        inside = (z > 0) & (whole >= 0).all(axis=1) & (whole[:, 0] < width) & (whole[:, 1] < height)
        distance = float((cameras.centers[view].double() - torch.from_numpy(middle)).norm())
        radius = max(1, round(float(cameras.K[view, 0, 0]) * step / distance / 2))
        grown = ndimage.binary_dilation(mask, iterations=radius)
        votes[inside] += grown[whole[inside, 1], whole[inside, 0]]
        seen += inside
        pixels.append(whole)
        within.append(inside)
        reach.append(radius)
    needed = np.where(seen >= 4, seen - 1, seen)
    solid = (votes >= needed) & (seen >= 3)
    if solid.sum() < 8:
        return masks
    result: Masks = []
    for view, mask in enumerate(masks):
        here = pixels[view][solid & within[view]]
        hull = np.zeros(mask.shape, dtype=bool)
        hull[here[:, 1], here[:, 0]] = True
        hull = ndimage.binary_dilation(hull, iterations=reach[view] + 1)
        holes = ndimage.binary_fill_holes(mask) & ~mask
        kept = (mask & hull) | (holes & ndimage.binary_erosion(hull, iterations=reach[view] + 1))
        result.append(_without_crumbs(kept))
    return result


def _without_crumbs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without pieces of less than a tenth of the largest: what is left of shadows that were cut."""
    labels, count = ndimage.label(mask)
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
