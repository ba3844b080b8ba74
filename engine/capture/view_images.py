"""The images of one view: files or a video, decoded when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL
from numpy.typing import NDArray

from ..errors import InputError
from ..files import images
from ..files.mask_layers import layers_of_pixels
from ..files.masks import WHITE_ON_BLACK, MaskEncoding, read_mask
from .undistort import Distortion, remap, remap_by_strips, remap_nearest, undistortion_map
from .video_file import VideoFile
from .video_pixels import to_mask_pixels, to_pixels

Array = NDArray[Any]
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

    @property
    def may_have_masks(self) -> bool:
        """Whether `read` may give masks."""
        ...

    @property
    def is_sequence(self) -> bool:
        """Whether frames are decoded fastest one after the other, as those of a video."""
        ...

    def reopened(self) -> ViewImages:
        """The same view with files of its own, for another thread."""
        ...

    def settings(self) -> list[Any]:
        """All that decides how frames are read, as plain JSON; with `origin`, it decides their bits."""
        ...

    def origin(self, moment: int) -> list[Any]:
        """What a frame is read from, as plain JSON: paths, sizes and modification times. Raises OSError."""
        ...


def stamp(path: Path) -> list[Any]:
    """A file's path, size and modification time. Raises OSError."""
    facts = path.stat()
    return [os.path.abspath(path), facts.st_size, facts.st_mtime_ns]


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

    @property
    def may_have_masks(self) -> bool:
        return self.uses_alpha or any(file.mask is not None for file in self.images.values())

    @property
    def is_sequence(self) -> bool:
        return False

    def reopened(self) -> ImageView:
        return self

    def settings(self) -> list[Any]:
        known = [self.size, self.lens, self.encoding, self.uses_alpha, self.white, PIL.__version__]
        return [repr(value) for value in known]

    def origin(self, moment: int) -> list[Any]:
        file = self.images[moment]
        return [*stamp(file.path), *([] if file.mask is None else stamp(file.mask))]


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
            if at is None or not others.wants(at):
                return
            image, mask = self._split(frame)
            if self.mask is not None:
                try:
                    mask = self._mask_at(at)
                except InputError:
                    # said where this frame is asked for
                    return
            others.keep(at, image, mask)

        image, mask = self._split(self.video.read(number, passing))
        return image, mask if self.mask is None else self._mask_at(moment)

    def _mask_at(self, moment: int) -> Array:
        """The mask video's frame; it goes forward as the video does."""
        assert self.mask is not None
        number = (self.mask_numbers or self.numbers)[moment]
        pixels = to_mask_pixels(self.mask.read(number), self.mask.facts, self.size)
        return np.ascontiguousarray(self.encoding.read(layers_of_pixels(pixels)))

    def close(self) -> None:
        self.video.close()
        if self.mask is not None:
            self.mask.close()

    @property
    def may_have_masks(self) -> bool:
        return self.mask is not None or (self.video.facts.has_alpha and self.uses_alpha)

    @property
    def is_sequence(self) -> bool:
        return True

    def reopened(self) -> VideoView:
        mask = None if self.mask is None else self.mask.reopened()
        return replace(self, video=self.video.reopened(), mask=mask)

    def settings(self) -> list[Any]:
        import av

        facts = [each.facts for each in (self.video, self.mask) if each is not None]
        known = [self.size, self.lens, self.encoding, self.uses_alpha, facts]
        return [repr(value) for value in (*known, av.__version__, av.library_versions)]

    def origin(self, moment: int) -> list[Any]:
        files = [*stamp(self.video.path), *([] if self.mask is None else stamp(self.mask.path))]
        return [*files, self.numbers[moment], (self.mask_numbers or self.numbers)[moment]]

    def _split(self, frame: Any) -> tuple[Array, Array | None]:
        facts = self.video.facts
        values = to_pixels(frame, facts, self.size, facts.has_alpha and self.uses_alpha)
        if values.shape[2] == 3:
            return values, None
        return np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3])
