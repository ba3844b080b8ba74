"""Separate subjects in masks of a video: one of them is followed through the frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..backends import require

# longer side at which regions are told apart
PIXELS = 256
# coverage from which a pixel belongs to a subject
INSIDE = 0.5
# gap between two parts of one subject, as a share of the image's longer side
GAP = 0.02
# area of another subject, as a share of the kept one's
OTHER = 0.2


def image_measures() -> Any:
    """scipy.ndimage. Raises InputError where it is missing."""
    require("scipy")
    from scipy import ndimage

    # its stubs leave out which of several results a call has
    return ndimage


class Kept(NamedTuple):
    """Masks of one subject."""

    masks: Tensor  # [F, H, W] in 0..1
    subjects: int  # in the frame with the most of them
    frames: tuple[int, ...]  # that show more than one


def largest_subject(alphas: Tensor) -> Kept:
    """Keep the largest subject of a video and follow it by overlap.

    The largest connected region of all frames is kept, and in the frames before and after it the region that overlaps with
    it most, or else is nearest. Regions less than 2 % of the image apart count as one.

    Args:
        alphas: Coverage [F, H, W] in 0..1.

    Returns:
        Masks that are 0 on everything else, and how many subjects there were: regions of at least 20 % of the kept one.
    """
    count = len(alphas)
    regions = [_regions(frame) for frame in alphas]
    sizes = [r.sizes.max(initial=0) for r in regions]
    start = int(np.argmax(sizes))
    kept = torch.zeros_like(alphas)
    if not sizes[start]:
        return Kept(kept, 0, ())
    subjects, several = 1, list[int]()
    for order in (range(start, count), range(start - 1, -1, -1)):
        last = regions[start].of(int(regions[start].sizes.argmax()))
        for i in order:
            found = regions[i]
            if not len(found.sizes):
                continue
            which = _closest(found, last)
            last = found.of(which)
            # the soft edge outside of the region is its own, as far as no other region is nearer
            near = torch.from_numpy(found.nearest == which + 1).float()[None, None]
            kept[i] = alphas[i] * torch.nn.functional.interpolate(near, alphas.shape[1:])[0, 0]
            others = int((found.sizes >= OTHER * found.sizes[which]).sum())
            if others > 1:
                several.append(i)
                subjects = max(subjects, others)
    return Kept(kept, subjects, tuple(sorted(several)))


class _Regions(NamedTuple):
    """Numbered regions of a mask."""

    labels: np.ndarray  # [H, W], 0 outside, else 1 to N
    nearest: np.ndarray  # [H, W], the number of the nearest region
    sizes: np.ndarray  # [N] pixels

    def of(self, which: int) -> np.ndarray:
        return self.labels == which + 1


def _regions(alpha: Tensor) -> _Regions:
    ndimage = image_measures()
    scale = min(PIXELS / max(alpha.shape), 1.0)
    size = [max(1, round(side * scale)) for side in alpha.shape]
    # the maximum keeps thin parts
    inside = torch.nn.functional.adaptive_max_pool2d(alpha[None].float(), size)[0].numpy() > INSIDE
    reach = max(1, round(GAP * max(inside.shape) / 2))
    near = ndimage.distance_transform_edt(~inside) <= reach if inside.any() else inside
    grouped, count = ndimage.label(near)
    labels = np.where(inside, grouped, 0)
    if not count:
        return _Regions(labels, labels, np.zeros(0, np.int64))
    _, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return _Regions(labels, labels[rows, columns], np.bincount(labels.ravel(), minlength=count + 1)[1:])


def _closest(found: _Regions, last: np.ndarray) -> int:
    """The region that overlaps most with the last one, or whose center is nearest to its center."""
    if len(found.sizes) == 1:
        return 0
    ndimage = image_measures()
    overlap = np.bincount(found.labels[last], minlength=len(found.sizes) + 1)[1:]
    # specks do not carry the subject on
    overlap[found.sizes < OTHER * found.sizes.max()] = 0
    if overlap.any():
        return int(overlap.argmax())
    centers = np.array(ndimage.center_of_mass(found.labels > 0, found.labels, range(1, len(found.sizes) + 1)))
    apart = np.linalg.norm(centers - np.array(ndimage.center_of_mass(last)), axis=1)
    return int(np.where(found.sizes >= OTHER * found.sizes.max(), apart, np.inf).argmin())
