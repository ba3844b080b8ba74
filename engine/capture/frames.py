"""Frames read on demand: a bounded store of decoded images shared by all views of a capture."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..lru import LruCache
from ..scene.video import Frame
from .depth_maps import DepthFile, read_depth
from .prepared_folder import PreparedFolder
from .prepared_frames import PreparedFrames
from .view_images import ViewImages, stamp

Array = NDArray[Any]
MEGABYTE = 2**20


class FrameStore:
    """The FrameSource of all readers: at most `cache_megabytes` of decoded frames, the least recently used go first.

    Frames of a capture that is larger can be prepared in a folder, from which they are then read.
    Thread-safe: two threads may read two views at once, readers of one view wait for each other.
    """

    def __init__(
        self,
        views: Sequence[ViewImages],
        cache_megabytes: int,
        also: Sequence[Path] = (),
        uses_masks: bool = True,
        depths: Sequence[Mapping[int, DepthFile]] = (),
        prepared: PreparedFolder | None = None,
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
        # frames that fit into memory need no preparation
        self._prepared = self._prepares(prepared) if prepared is not None and self.is_large else None

    @property
    def is_large(self) -> bool:
        """Whether all frames together do not fit into the cache, so that they would be decoded again and again."""
        pairs = ((v, m) for v, view in enumerate(self._views) for m in view.moments())
        return sum(self._size(*pair) for pair in pairs) > self._kept.room

    @property
    def prepared(self) -> PreparedFrames | None:
        """The frames that are prepared on disk; None for a small capture, and where there is no folder for them."""
        return self._prepared

    @property
    def kept_bytes(self) -> int:
        return self._kept.used

    def read(self, view: int, moment: int) -> Frame:
        """The frame at its stored size; see FrameSource. The tensors are shared: do not change them in place."""
        with self._lock:
            frame = self._kept.get((view, moment))
        if frame is not None:
            return frame
        if self._prepared is not None and (frame := self._prepared.get(view, moment)) is not None:
            # not kept: the system's cache of files does that
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

    def _prepares(self, folder: PreparedFolder) -> PreparedFrames:
        return PreparedFrames(
            folder, self._views, [self._uses_masks], self._size, self._depth_origin, self._opened
        )

    def _size(self, view: int, moment: int) -> int:
        """Bytes of a frame, at most."""
        width, height = self._views[view].size
        has_mask = self._uses_masks and self._views[view].may_have_masks
        return width * height * (3 + has_mask + 4 * (moment in self._depths[view]))

    def _depth_origin(self, view: int, moment: int) -> list[Any]:
        file = self._depths[view].get(moment)
        return [] if file is None else [*stamp(file.path), file.unit]

    @contextmanager
    def _opened(self, view: int) -> Generator[Callable[[int], Frame], None, None]:
        """Reads one frame after the other with a decoder of its own, and keeps none."""
        own = self._views[view].reopened()
        try:
            yield lambda moment: self._finish(view, moment, *own.read(moment, _Nothing()))
        finally:
            own.close()

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


class _Nothing:
    """Keeps no passing frames."""

    def wants(self, moment: int) -> bool:
        return False

    def keep(self, moment: int, image: Array, mask: Array | None) -> None:
        """Never called."""


def _tensor(values: Array) -> torch.Tensor:
    """A tensor that owns its memory, also where Pillow's is read-only."""
    return torch.as_tensor(values if values.flags.writeable else values.copy())


def _bytes(frame: Frame) -> int:
    mask = 0 if frame.mask is None else frame.mask.numel()
    return frame.image.numel() + mask + (0 if frame.depth is None else 4 * frame.depth.numel())
