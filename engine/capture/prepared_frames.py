"""Frames of a capture, decoded once in the order of their files and kept on disk at the size in which they are read.

What is kept is what `FrameStore` gives: 8-bit images and masks after resampling, straightening and tone mapping, and depth in
32-bit floating point. So a prepared frame has the same bits as one that is read from its file. A video is split into files of
`FILE_BYTES`, each named by a hash of what decides its bits; each is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..errors import InputError
from ..files.atomic import write_atomically
from ..kernels.threads import cores
from ..scene.video import Frame
from .frame_file import FORMAT, FrameWriter, Place, read_frame, read_index
from .prepared_folder import PreparedFolder
from .view_images import ViewImages

# (view, frame)
Pair = tuple[int, int]
# reads one frame of a view that is opened for a pass of its own
Reader = Callable[[int], Frame]
# of one file: the work that a canceled preparation loses, for each thread
FILE_BYTES = 64 << 20
MOST_THREADS = 16
# seconds between two messages of a preparation, in which it can be canceled
PATIENCE = 0.25


class Part(NamedTuple):
    """Frames that share a file."""

    pairs: tuple[Pair, ...]
    size: int  # bytes, at most


def parts_of(views: Sequence[ViewImages], size_of: Callable[[int, int], int]) -> list[Part]:
    """All frames, in the order in which they are read fastest. `size_of` gives a frame's bytes at most."""
    parts: list[Part] = []
    pairs: list[Pair] = []
    total = 0
    for view, source in enumerate(views):
        for moment in source.moments():
            size = size_of(view, moment)
            # images of many views may share a file, those of a video are read in one pass
            is_elsewhere = bool(pairs) and pairs[-1][0] != view and source.is_sequence
            if pairs and (is_elsewhere or total + size > FILE_BYTES):
                parts.append(Part(tuple(pairs), total))
                pairs, total = [], 0
            pairs.append((view, moment))
            total += size
    return [*parts, Part(tuple(pairs), total)] if pairs else parts


class PreparedFrames:
    """The prepared frames of one capture, and the work of preparing them. Thread-safe.

    Args:
        folder: Where the files lie.
        views: The capture's views.
        settings: What else decides the bits, as plain JSON.
        size_of: Bytes of a frame (view, frame) at most.
        origin_of: What a frame's depth is read from, as plain JSON. Raises OSError.
        open_view: Opens a view for one pass.
    """

    def __init__(
        self,
        folder: PreparedFolder,
        views: Sequence[ViewImages],
        settings: list[Any],
        size_of: Callable[[int, int], int],
        origin_of: Callable[[int, int], list[Any]],
        open_view: Callable[[int], AbstractContextManager[Reader]],
    ) -> None:
        self._folder, self._views, self._settings = folder, views, settings
        self._origin_of, self._open = origin_of, open_view
        self._parts = parts_of(views, size_of)
        # facts of long videos are long
        self._readings = [hashlib.sha256(json.dumps(view.settings()).encode()).hexdigest() for view in views]
        self._lock = threading.Lock()
        # of each part that is prepared, by its number: key, and where its frames lie
        self._found: dict[int, tuple[str, dict[Pair, Place]]] = {}
        self._part_of = {pair: number for number, part in enumerate(self._parts) for pair in part.pairs}
        self._has_looked = False
        self._mark = folder.mark(self)

    def get(self, view: int, moment: int) -> Frame | None:
        """A frame that is prepared; None for one that must be read from its file."""
        with self._lock:
            if not self._has_looked:
                self._look()
            number = self._part_of.get((view, moment), -1)
            found = self._found.get(number)
        if found is None:
            return None
        key, places = found
        try:
            return read_frame(self._folder.file(key), places[view, moment])
        except OSError:
            # removed, or a disk that fails
            self.forget(number)
            return None

    def has_all(self, pairs: Iterable[Pair]) -> bool:
        """Whether all these frames are prepared."""
        with self._lock:
            if not self._has_looked:
                self._look()
            return all(self._part_of.get(pair, -1) in self._found for pair in pairs)

    def missing(self, pairs: Iterable[Pair]) -> list[int]:
        """Numbers of the parts with frames of `pairs` that are not prepared, or whose files changed since."""
        with self._lock:
            self._look()
            wanted = {self._part_of[pair] for pair in pairs if pair in self._part_of}
            return sorted(wanted - self._found.keys())

    def count(self, numbers: Iterable[int]) -> int:
        """Frames in parts."""
        return sum(len(self._parts[number].pairs) for number in numbers)

    def prepare(self, numbers: Sequence[int]) -> Generator[int, None, str]:
        """Prepare parts on all cores, one pass over each video; yields how many frames are done.

        Closing the generator ends the threads and keeps the files that are whole.

        Returns:
            Why frames are read from the capture's files instead, in one sentence; empty where all went well. A frame that
            cannot be decoded is no reason: reading it raises its own error.
        """
        needed = sum(self._parts[number].size for number in numbers)
        obstacle = self._folder.make_room(needed, [key for key, _ in self._found.values()])
        if not obstacle:
            work = _Work(self, numbers)
            yield from work.run()
            obstacle = work.obstacle
        if not obstacle:
            return ""
        return f"Frames are read from the capture's files, which is slower, because they could not be prepared: {obstacle}."

    # -- files --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Find which parts are prepared for the files as they are now."""
        self._has_looked = True
        self._found = {}
        for number in range(len(self._parts)):
            with suppress(OSError):
                self._take(number, self._key(number))
        if self._found:
            self._folder.hold(self._mark, [key for key, _ in self._found.values()])

    def _take(self, number: int, key: str) -> None:
        """Use a part's file. Raises OSError where there is none."""
        path, pairs = self._folder.file(key), self._parts[number].pairs
        try:
            places = read_index(path)
            sizes = [self._views[view].size for view, _ in pairs]
            if [(place.width, place.height) for place in places] != sizes:
                raise ValueError("other frames")
        except ValueError:
            with suppress(OSError):
                path.unlink()
            return
        self._found[number] = key, dict(zip(pairs, places, strict=True))

    def _key(self, number: int) -> str:
        """A hash of what decides the bits of a part. Raises OSError where a file is missing."""
        pairs = self._parts[number].pairs
        views = sorted({view for view, _ in pairs})
        origins = [[*self._views[v].origin(m), *self._origin_of(v, m)] for v, m in pairs]
        readings = [self._readings[view] for view in views]
        text = json.dumps([FORMAT.decode(), __version__, self._settings, readings, origins])
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def write(
        self, number: int, reading: _Pass, is_stopped: Callable[[], bool], done: Callable[[], None]
    ) -> Path:
        """Prepare one part and return its file; `done` is called after each frame.

        Raises InputError where it cannot be written, _Left where a frame cannot be read or `is_stopped` says so.
        """
        try:
            key = self._key(number)
        except OSError as error:
            raise _Left from error
        path = self._folder.file(key)
        with write_atomically(path) as partial, open(partial, "wb") as file:
            writer = FrameWriter(file)
            for view, moment in self._parts[number].pairs:
                if is_stopped():
                    raise _Left
                try:
                    frame = reading.read(view, moment)
                except (InputError, LookupError, OSError) as error:
                    raise _Left from error
                writer.add(frame)
                done()
            writer.finish()
        with self._lock, suppress(OSError):
            self._take(number, key)
            self._folder.hold(self._mark, [key])
        return path

    def adopts(self, number: int) -> bool:
        """Whether a part's file is there by now, from another process."""
        with self._lock, suppress(OSError):
            self._take(number, self._key(number))
        return number in self._found

    def forget(self, number: int) -> None:
        """Read a part's frames from the capture's files from now on."""
        with self._lock:
            self._found.pop(number, None)

    def opened(self) -> _Pass:
        """The views, for a thread that reads them one after the other."""
        return _Pass(self._open)

    def runs(self, numbers: Sequence[int], threads: int) -> list[list[int]]:
        """Parts for one thread each, one after the other: all of a video, or a section of it where there are few videos."""
        by_view: dict[int, list[int]] = {}
        alone: list[list[int]] = []
        for number in numbers:
            view = self._parts[number].pairs[0][0]
            if self._views[view].is_sequence:
                by_view.setdefault(view, []).append(number)
            else:
                alone.append([number])
        sections = -(-threads // max(len(by_view), 1))
        runs: list[list[int]] = []
        for each in by_view.values():
            length = -(-len(each) // sections)
            runs += [each[start : start + length] for start in range(0, len(each), length)]
        return runs + alone


class _Left(Exception):
    """A part that is not prepared."""


class _Pass:
    """Reads frames of view after view; one view is open at a time."""

    def __init__(self, open_view: Callable[[int], AbstractContextManager[Reader]]) -> None:
        self._open_view, self._view = open_view, -1
        self._stack = ExitStack()
        self._read: Reader | None = None

    def read(self, view: int, moment: int) -> Frame:
        if view != self._view or self._read is None:
            self._stack.close()
            self._view, self._read = view, self._stack.enter_context(self._open_view(view))
        return self._read(moment)

    def close(self) -> None:
        self._stack.close()


class _Work:
    """Threads that prepare parts."""

    def __init__(self, frames: PreparedFrames, numbers: Sequence[int]) -> None:
        self._frames, self._numbers = frames, numbers
        self._stop = threading.Event()
        self._ticks: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._made: list[tuple[int, Path]] = []
        # why the work ended early
        self.obstacle = ""

    def run(self) -> Generator[int, None, None]:
        """Yields how many frames are done."""
        threads, done = min(cores(), MOST_THREADS), 0
        with ThreadPoolExecutor(threads, thread_name_prefix="gs4d-prepare") as pool:
            pending = [pool.submit(self._prepare, run) for run in self._frames.runs(self._numbers, threads)]
            try:
                while not all(future.done() for future in pending):
                    with suppress(queue.Empty):
                        done += self._ticks.get(timeout=PATIENCE)
                    yield done
            finally:
                # closed or failed: each thread ends after the frame that it decodes
                self._stop.set()
        for future in pending:
            future.result()
        if self.obstacle:
            # a full disk must still take what is trained
            for number, path in self._made:
                self._frames.forget(number)
                with suppress(OSError):
                    path.unlink()
        else:
            yield self._frames.count(self._numbers)

    def _prepare(self, numbers: list[int]) -> None:
        with closing(self._frames.opened()) as reading:
            for number in numbers:
                if self._stop.is_set():
                    return
                try:
                    path = self._frames.write(number, reading, self._stop.is_set, lambda: self._ticks.put(1))
                except _Left:
                    continue
                except InputError as error:
                    if self._frames.adopts(number):
                        # another process wrote it meanwhile, and Windows replaces no file that is being read
                        continue
                    self.obstacle = error.message.rstrip(".")
                    self._stop.set()
                    return
                self._made.append((number, path))
