"""Frames read on demand: a bounded store of decoded images shared by all views of a capture."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..files import images
from ..files.mask_layers import layers_of_pixels
from ..files.masks import WHITE_ON_BLACK, MaskEncoding, read_mask
from ..lru import LruCache
from ..scene.video import Frame
from .depth_maps import DepthFile, read_depth
from .undistort import Distortion, remap, remap_by_strips, remap_nearest, undistortion_map
from .video_file import VideoFile
from .video_pixels import to_mask_pixels, to_pixels

Array = NDArray[Any]
MEGABYTE = 2**20
# pixels beyond which an image is straightened by strips
LARGE = 16_000_000


@dataclass(frozen=True)
class Lens:
    """How images of one view are straightened as they are read. K are those of the size that is read."""

    distortion: Distortion
    K: tuple[float, ...]  # 9 numbers, row by row: of the image as taken
    new_K: tuple[float, ...]  # 9 numbers: of the pinhole image that comes out

    def straighten(self, image: Array) -> Array:
        """An image [H, W(, C)] uint8 as the pinhole camera `new_K` takes it."""
        return self._taken(image, remap)

    def straighten_depth(self, depth: Array) -> Array:
        """A depth map [H, W] float32 in the same way; depths are not mixed."""
        return self._taken(depth, remap_nearest)

    def _taken(self, values: Array, take: Callable[[Array, Array], Array]) -> Array:
        height, width = values.shape[:2]
        if height * width <= LARGE:
            return take(values, _map(self, width, height))
        # maps of large images are as large as many images, so they are neither kept nor made at once
        return remap_by_strips(values, lambda rows: _map_of(self, width, height, rows), take)


@lru_cache(maxsize=16)
def _map(lens: Lens, width: int, height: int) -> Array:
    return _map_of(lens, width, height, None)


def _map_of(lens: Lens, width: int, height: int, rows: range | None) -> Array:
    old, new = (np.reshape(k, (3, 3)) for k in (lens.K, lens.new_K))
    return undistortion_map(old, lens.distortion, new, (width, height), rows)


def without_background(image: Array, mask: Array) -> Array:
    """The subject's own colors, where an image [H, W, 3] was composited over one color by its mask [H, W] already.

    It was if all pixels outside the mask have the same color. Compositing it again would count that color twice at
    soft edges; any other image is returned unchanged.
    """
    outside, edge = image[mask == 0], (mask > 0) & (mask < 255)
    if not len(outside) or not edge.any() or bool((outside != outside[0]).any()):
        return image
    share = mask[edge, None].astype(np.float32) / 255
    own = (image[edge] - (1 - share) * outside[0].astype(np.float32)) / share
    result = image.copy()
    result[edge] = own.clip(0, 255).round().astype(np.uint8)
    return result


class Passing(Protocol):
    """Takes frames that are decoded on the way to another, while there is room for them."""

    def wants(self, moment: int) -> bool: ...

    def keep(self, moment: int, image: Array, mask: Array | None) -> None: ...


class ViewImages(Protocol):
    """The images of one view."""

    size: tuple[int, int]  # (width, height) that `read` gives
    lens: Lens | None

    def files(self) -> list[Path]: ...

    def moments(self) -> list[int]:
        """The frames that can be read, ascending."""
        ...

    def read(self, moment: int, others: Passing) -> tuple[Array, Array | None]:
        """RGB [H, W, 3] and mask [H, W] or None; `others` is offered what is decoded on the way."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ImageFile:
    """One image file with its mask file, if it has one; names are for messages."""

    path: Path
    name: str
    mask: Path | None = None
    mask_name: str = ""


@dataclass
class ImageView:
    """A view whose frames are image files."""

    images: dict[int, ImageFile]
    size: tuple[int, int]
    lens: Lens | None = None
    encoding: MaskEncoding = WHITE_ON_BLACK  # of the mask files
    uses_alpha: bool = True  # of images without a mask file
    white: float | None = None  # stored value, where the images' type does not say it

    def files(self) -> list[Path]:
        return [p for s in self.images.values() for p in (s.path, s.mask) if p is not None]

    def moments(self) -> list[int]:
        return sorted(self.images)

    def read(self, moment: int, others: Passing) -> tuple[Array, Array | None]:
        file = self.images[moment]
        image, mask = images.read_image(file.path, file.name, self.size, self.white)
        if file.mask is not None:
            mask = read_mask(file.mask, file.mask_name, self.size, self.encoding)
            image = without_background(image, mask)
        elif not self.uses_alpha:
            mask = None
        return image, mask

    def close(self) -> None:
        """Image files are closed as soon as they are read."""


@dataclass
class VideoView:
    """A view whose frames come from a video, with an optional mask video beside it."""

    video: VideoFile
    numbers: Mapping[int, int]  # frame index → frame number in the file
    size: tuple[int, int]
    mask: VideoFile | None = None
    lens: Lens | None = None
    encoding: MaskEncoding = WHITE_ON_BLACK  # of the mask video
    uses_alpha: bool = True  # of a video without a mask video
    mask_numbers: Mapping[int, int] | None = None  # frame index → frame number in the mask's file, if another
    _moment_of: dict[int, int] = field(default_factory=dict[int, int], init=False)

    def __post_init__(self) -> None:
        self._moment_of = {number: moment for moment, number in self.numbers.items()}

    def files(self) -> list[Path]:
        return [self.video.path] + ([self.mask.path] if self.mask else [])

    def moments(self) -> list[int]:
        return sorted(self.numbers)

    def read(self, moment: int, others: Passing) -> tuple[Array, Array | None]:
        number = self.numbers[moment]

        def passing(passed: int, frame: Any) -> None:
            at = self._moment_of.get(passed)
            if at is not None and others.wants(at):
                others.keep(at, *self._split(frame))

        # A mask video is read by itself, so only frames without one can be kept in passing.
        frame = self.video.read(number, passing if self.mask is None else None)
        image, mask = self._split(frame)
        if self.mask is not None:
            if self.mask_numbers is not None:
                number = self.mask_numbers[moment]
            pixels = to_mask_pixels(self.mask.read(number), self.mask.facts, self.size)
            mask = np.ascontiguousarray(self.encoding.read(layers_of_pixels(pixels)))
        return image, mask

    def close(self) -> None:
        self.video.close()
        if self.mask is not None:
            self.mask.close()

    def _split(self, frame: Any) -> tuple[Array, Array | None]:
        facts = self.video.facts
        values = to_pixels(frame, facts, self.size, facts.has_alpha and self.uses_alpha)
        if values.shape[2] == 3:
            return values, None
        return np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3])


class FrameStore:
    """The FrameSource of all readers: at most `cache_megabytes` of decoded frames, the least recently used go first.

    Thread-safe: two threads may read two views at once, readers of one view wait for each other.
    """

    def __init__(
        self,
        views: Sequence[ViewImages],
        cache_megabytes: int,
        also: Sequence[Path] = (),
        uses_masks: bool = True,
        depths: Sequence[Mapping[int, DepthFile]] = (),
    ) -> None:
        self._views = tuple(views)
        # files that describe the capture; they count in the fingerprint
        self._also = tuple(also)
        # else masks and alpha are left aside, and images are whole
        self._uses_masks = uses_masks
        # of each view, by frame
        self._depths = tuple(depths) or tuple({} for _ in self._views)
        self._kept: LruCache[tuple[int, int], Frame] = LruCache(cache_megabytes * MEGABYTE, _bytes)
        self._lock = threading.Lock()
        self._view_locks = [threading.Lock() for _ in self._views]
        # frames decoded and asked for so far; with `kept_bytes`, for measurements
        self.decoded = 0

    @property
    def kept_bytes(self) -> int:
        return self._kept.used

    def read(self, view: int, moment: int) -> Frame:
        """The frame at its stored size; see FrameSource. The tensors are shared: do not change them in place."""
        with self._lock:
            frame = self._kept.get((view, moment))
        if frame is not None:
            return frame
        with self._view_locks[view]:
            with self._lock:
                frame = self._kept.get((view, moment))
            if frame is not None:
                return frame
            try:
                frame = self._finish(view, moment, *self._views[view].read(moment, _Room(self, view)))
            except (KeyError, IndexError) as error:
                raise InputError(
                    "CAP-073", f"View {view} has no frame {moment}. Choose a frame that this view contains."
                ) from error
            self.decoded += 1
            with self._lock:
                self._kept.put((view, moment), frame)
        return frame

    def fingerprint(self) -> str:
        """A hash of names, sizes and modification times of every file behind the frames, and of masks left aside."""
        made = hashlib.sha256(b"" if self._uses_masks else b"no masks|")
        depths = (file.path for view in self._depths for file in view.values())
        for path in (*self._also, *(p for v in self._views for p in v.files()), *depths):
            try:
                stat = path.stat()
                made.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode("utf-8", "backslashreplace"))
            except OSError:
                made.update(f"{path}|gone\n".encode("utf-8", "backslashreplace"))
        return made.hexdigest()

    def close(self) -> None:
        """Close every open file and forget every frame; reading afterwards opens them again."""
        for view in self._views:
            view.close()
        with self._lock:
            self._kept.clear()

    def has_room(self, view: int) -> bool:
        """Whether one more frame of `view` can be kept without another's going."""
        width, height = self._views[view].size
        return self._kept.used + 4 * width * height <= self._kept.room

    def holds(self, view: int, moment: int) -> bool:
        """Whether the frame is decoded already."""
        with self._lock:
            return (view, moment) in self._kept

    def put(self, view: int, moment: int, image: Array, mask: Array | None) -> None:
        """Keep a frame that was decoded on the way to another."""
        frame = self._finish(view, moment, image, mask)
        with self._lock:
            self._kept.put((view, moment), frame)

    def _finish(self, view: int, moment: int, image: Array, mask: Array | None) -> Frame:
        lens, mask = self._views[view].lens, mask if self._uses_masks else None
        file = self._depths[view].get(moment)
        depth = None if file is None else read_depth(file, self._views[view].size)
        if lens is not None:
            image = lens.straighten(image)
            mask = None if mask is None else lens.straighten(mask)
            depth = None if depth is None else lens.straighten_depth(depth)
        return Frame(
            _tensor(image),
            None if mask is None else _tensor(mask),
            None if depth is None else _tensor(depth),
        )


class _Room:
    """Keeps passing frames of one view as long as none has to go for them."""

    def __init__(self, store: FrameStore, view: int) -> None:
        self._store, self._view = store, view

    def wants(self, moment: int) -> bool:
        return self._store.has_room(self._view) and not self._store.holds(self._view, moment)

    def keep(self, moment: int, image: Array, mask: Array | None) -> None:
        self._store.put(self._view, moment, image, mask)


def _tensor(values: Array) -> torch.Tensor:
    """A tensor that owns its memory, also where Pillow's is read-only."""
    return torch.as_tensor(values if values.flags.writeable else values.copy())


def _bytes(frame: Frame) -> int:
    mask = 0 if frame.mask is None else frame.mask.numel()
    return frame.image.numel() + mask + (0 if frame.depth is None else 4 * frame.depth.numel())
