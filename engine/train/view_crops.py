"""Crops of views around a mask: a small part is edited at the model's full resolution and pasted back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..scene import ViewSet
from .originals import resampled, resize

CROPS = ("none", "keep mask", "selection")
# mask value from which a pixel counts as masked
MASKED = 0.5
# weights of neighboring frames in the center of a crop
SMOOTHING = (1.0, 2.0, 3.0, 2.0, 1.0)
# part of a crop's side over which it blends into the image
FEATHER = 1 / 12


class Window(NamedTuple):
    """A square part of an image, in whole pixels."""

    left: int
    top: int
    side: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def longest_side(masks: Tensor, margin: float) -> float:
    """Longer side of the largest mask's box with its margin, as a fraction of the images' short side; at most 1.

    Raises:
        InputError: All masks are empty.
    """
    boxes = [box for box in map(_box, masks) if box is not None]
    if not boxes:
        raise InputError(
            "TRN-022",
            f"The mask to crop around is empty in all {len(masks)} images; choose views that show the part, or set crop to "
            "none.",
        )
    return min(max(_extent(box) for box in boxes) * (1 + 2 * margin) / min(masks.shape[1:]), 1.0)


def windows_of(
    masks: Tensor, views: Sequence[int], moments: Sequence[int], margin: float, size: tuple[int, int]
) -> list[Window | None]:
    """Where to crop.

    All crops of one camera have one side, and their centers are smoothed over its frames, so that they do not jump. A frame
    without a mask takes the nearest frame's place.

    Args:
        masks: [F, h, w] in 0..1, at any size of the images' shape.
        views: F indices of cameras.
        moments: F indices of frames.
        margin: Space on each side, as a fraction of the mask's box.
        size: (width, height) of the images.

    Returns:
        F windows within the images; None for all images of a camera whose masks are empty.
    """
    width, height = size
    scale = width / masks.shape[2], height / masks.shape[1]
    found: list[Window | None] = [None] * len(masks)
    for view in sorted(set(views)):
        frames = sorted((i for i, v in enumerate(views) if v == view), key=lambda i: moments[i])
        boxes = {i: box for i in frames if (box := _box(masks[i], scale)) is not None}
        if not boxes:
            continue
        nearest = {i: min(boxes, key=lambda k, i=i: abs(moments[k] - moments[i])) for i in frames}
        longest = max(_extent(box) for box in boxes.values())
        side = min(max(1, round(longest * (1 + 2 * margin))), width, height)
        centers = _smoothed([_center(boxes[nearest[i]]) for i in frames])
        for i, center in zip(frames, centers, strict=True):
            box = boxes[nearest[i]]
            left = _placed(center[0], box[0], box[2], side, width)
            top = _placed(center[1], box[1], box[3], side, height)
            found[i] = Window(left, top, side)
    return found


class Crops:
    """The crops of some views as views of their own, and the way back.

    Args:
        whole: F views.
        windows: F windows; the images of those that are None are not edited.
        side: Pixels of the crops, which are square.
    """

    def __init__(self, whole: ViewSet, windows: Sequence[Window | None], side: int) -> None:
        self.whole, self.side = whole, side
        self.windows = {i: window for i, window in enumerate(windows) if window is not None}
        images = self.cut(whole.originals)
        chosen = list(self.windows)
        boxes = [(w.left, w.top, w.side, w.side) for w in self.windows.values()]
        self.views = replace(
            whole,
            images=images,
            originals=images,
            # the principal point moves with the crop, so that rays and epipolar lines stay those of the pixels
            cameras=whole.cameras[chosen].cropped(boxes).resized(((side, side),) * len(chosen)),
            views=tuple(whole.views[i] for i in chosen),
            moments=tuple(whole.moments[i] for i in chosen),
            seconds=tuple(whole.seconds[i] for i in chosen),
            alphas=None if whole.alphas is None else self.cut(whole.alphas),
        )

    def cut(self, images: Tensor) -> Tensor:
        """The crops [f, side, side, …] of images [F, H, W, 3] or masks [F, H, W]."""
        is_mask = images.ndim == 3
        planes = images[..., None] if is_mask else images
        size = self.side, self.side
        crops = torch.stack([resize(planes[i][window.slices], size) for i, window in self.windows.items()])
        return crops[..., 0] if is_mask else crops

    def pasted(self, edited: Tensor) -> Tensor:
        """The whole images [F, H, W, 3] with edited crops [f, side, side, 3]: bit-identical outside of the crops.

        What is pasted is the change, faded toward the crop's border, so that resampling takes no detail from what the edit
        left as it was.
        """
        images = self.whole.originals.clone()
        height, width = images.shape[1:3]
        for change, (i, window) in zip(edited - self.views.originals, self.windows.items(), strict=True):
            part = resampled(change, (window.side, window.side)) * _fade(window, (width, height))[..., None]
            rows, columns = window.slices
            images[i, rows, columns] = (images[i, rows, columns] + part).clamp(0, 1)
        return images

    def record(self) -> list[list[int] | None]:
        """The windows as plain numbers: left, top, side."""
        return [list(w) if (w := self.windows.get(i)) is not None else None for i in range(len(self.whole))]


def _box(mask: Tensor, scale: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of what is masked; None where nothing is."""
    rows, columns = (mask >= MASKED).nonzero(as_tuple=True)
    if not len(rows):
        return None
    x, y = scale
    left, right = float(columns.min()) * x, float(columns.max() + 1) * x
    return left, float(rows.min()) * y, right, float(rows.max() + 1) * y


def _extent(box: tuple[float, float, float, float]) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _center(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _smoothed(centers: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    half, last = len(SMOOTHING) // 2, len(centers) - 1
    made: list[tuple[float, float]] = []
    for i in range(len(centers)):
        near = [centers[min(max(i + k - half, 0), last)] for k in range(len(SMOOTHING))]
        x, y = (sum(w * c[axis] for w, c in zip(SMOOTHING, near, strict=True)) for axis in (0, 1))
        made.append((x / sum(SMOOTHING), y / sum(SMOOTHING)))
    return made


def _placed(center: float, first: float, last: float, side: int, limit: int) -> int:
    """Begin of a window along one axis: around the center, around all of the mask if it fits, and within the image."""
    start = center - side / 2
    if last - first <= side:
        start = min(max(start, last - side), first)
    return min(max(round(start), 0), limit - side)


def _fade(window: Window, size: tuple[int, int]) -> Tensor:
    """[side, side]: 1 inside, falling to 0 at borders that are not the image's."""
    side, width = window.side, max(1.0, window.side * FEATHER)
    steps = torch.arange(side) + 0.5
    ramps: list[Tensor] = []
    for start, limit in ((window.top, size[1]), (window.left, size[0])):
        near = steps if start > 0 else torch.full((side,), float(side))
        far = side - steps if start + side < limit else torch.full((side,), float(side))
        ramps.append((torch.minimum(near, far) / width).clamp(0, 1))
    return ramps[0][:, None] * ramps[1][None]
