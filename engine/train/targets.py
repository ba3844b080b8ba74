"""The images a fit is compared with: composited over the background, at the size of the schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..lru import LruCache
from ..scene import Cameras, Frame, MultiViewVideo
from .feeding import frame_on


@dataclass(frozen=True, eq=False)
class Target:
    image: Tensor  # [H, W, 3] float in 0..1, over the background
    mask: Tensor | None  # [H, W] float in 0..1
    depth: Tensor | None = None  # [H, W] float in the capture's unit; 0 where it is unknown


def composite(frame: Frame, background: Tensor) -> Target:
    """A frame over a background [3]; a frame without a mask stays as it is."""
    # as it is stored: a fourth of the bytes, and the conversion is the device's work
    frame = frame_on(frame, background.device)
    image, depth = frame.image.float() / 255, frame.depth
    if frame.mask is None:
        return Target(image, None, depth)
    mask = frame.mask.float() / 255
    return Target(image * mask[..., None] + background * (1 - mask[..., None]), mask, depth)


def resize(target: Target, size: tuple[int, int]) -> Target:
    """Area-averaged to (width, height): what a camera with larger pixels would have seen."""
    width, height = size
    if target.image.shape[:2] == (height, width):
        return target

    def shrink(planes: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(planes[None], size=(height, width), mode="area")[0]

    image = shrink(target.image.permute(2, 0, 1)).permute(1, 2, 0)
    mask = None if target.mask is None else shrink(target.mask[None])[0]
    if target.depth is None:
        return Target(image, mask)
    known, depth = shrink(torch.stack([(target.depth > 0).float(), target.depth]))
    # averaged over what is known; a pixel that is mostly unknown stays so
    return Target(image, mask, torch.where(known > 0.5, depth / known.clamp(min=0.5), 0.0))


class Targets:
    """Reads a video's frames as targets, and keeps the last ones ready in at most `megabytes`."""

    def __init__(self, video: MultiViewVideo, background: Tensor, megabytes: int = 256) -> None:
        self.video = video
        self.background = background
        self._rigs: dict[float, Cameras] = {1.0: video.cameras}
        self._ready: LruCache[tuple[int, int, float], Target] = LruCache(megabytes * 1_000_000, _bytes)

    def rig(self, scale: float) -> Cameras:
        if scale not in self._rigs:
            self._rigs[scale] = self.video.cameras.scaled(scale)
        return self._rigs[scale]

    def has(self, view: int, moment: int, scale: float = 1.0) -> bool:
        """Whether a target is ready, so that no frame is read for it."""
        return (view, moment, scale) in self._ready

    def get(self, view: int, moment: int, scale: float = 1.0) -> Target:
        key = (view, moment, scale)
        target = self._ready.get(key)
        if target is None:
            full = composite(self.video.source.read(view, moment), self.background)
            target = resize(full, self.rig(scale).sizes[view])
            self._ready.put(key, target)
        return target


def _bytes(target: Target) -> int:
    planes = (target.image, target.mask, target.depth)
    return 4 * sum(plane.numel() for plane in planes if plane is not None)


def background_of(video: MultiViewVideo, choice: str = "auto") -> Tensor:
    """The background color [3]. "auto": the video's own; else the images' border if it is uniform; else black.

    `choice` may also be "white", "black" or "grey".
    """
    named = {"white": 1.0, "black": 0.0, "grey": 0.5}
    if choice in named:
        return torch.full((3,), named[choice])
    if video.background is not None:
        return video.background.float()
    if video.has_masks:
        return torch.ones(3)
    borders: list[Tensor] = []
    for view in range(0, video.views, max(1, video.views // 8)):
        moment = int(video.available[view].nonzero()[0])
        image = video.source.read(view, moment).image.float() / 255
        borders += [image[0], image[-1], image[:, 0], image[:, -1]]
    pixels = torch.cat(borders)
    color = pixels.median(dim=0).values
    alike = ((pixels - color).abs().amax(dim=-1) < 0.06).float().mean()
    return color if float(alike) > 0.8 else torch.zeros(3)
