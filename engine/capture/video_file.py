"""One video file, frame by number: decoded when asked, forwards without seeking, backwards from a key frame."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..backends import require
from ..errors import InputError
from ..files.images import check_size
from .hdr import TRANSFERS, check_matrix
from .video_alpha import alpha_decoder, claims_alpha
from .video_alpha import decode as decode_alpha
from .video_container import frame_times, guarded, open_container, video_stream
from .video_fields import ASKED, deinterlaced, deinterlacer
from .video_orientation import UPRIGHT, Orientation, orientation

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts")
# Pixels decoded at most to look at a video's end: about half a second
PIXELS_TO_PROBE = 150_000_000
# Nanoseconds beyond which times are damage, and the frame rate below which it is
LATEST, SLOWEST = 2**61, 1e-3
# Decoders kept open over all views
OPEN_AT_ONCE = 12


@dataclass(frozen=True)
class VideoFacts:
    """What the head of a video file says, checked against its length."""

    size: tuple[int, int]  # (width, height) as shown
    frames: int
    fps: float
    stamps: tuple[int, ...]  # presentation times in the stream's units, ascending, one per frame
    keys: tuple[int, ...]  # numbers of the frames at which decoding can start
    has_alpha: bool = False
    alpha_decoder: str = ""  # of FFmpeg, where the codec's own leaves alpha out
    loses_alpha: bool = False  # the file has alpha, and no decoder for it is installed
    transfer: str = ""  # "HLG" or "PQ", empty where the video is SDR
    primaries: int = 0  # number of ITU-T H.273
    is_interlaced: bool = False
    is_counted: bool = False  # frames are told by their order, because their times are not to be relied on
    orientation: Orientation = UPRIGHT  # as shown from as stored
    unit: Fraction = Fraction(1)  # seconds of one unit of the stamps

    def nanoseconds(self) -> list[int]:
        """When each frame is shown; at a constant rate where the file's times are not to be relied on."""
        times = [] if self.is_counted else [round(stamp * self.unit * 10**9) for stamp in self.stamps]
        if times and max(abs(times[0]), abs(times[-1])) < LATEST:
            return times
        step = round(10**9 / self.fps) if self.fps > SLOWEST else 10**9
        return [i * step for i in range(self.frames)]


def probe(path: Path, name: str) -> VideoFacts:
    """Facts about the first video stream of `path`, with its first and last frame decoded.

    InputError, naming `name`: missing, empty, no video, cut short, without an index, without frames, or too large.
    """
    require("av")
    if not path.is_file():
        raise InputError("CAP-148", f"{name} is missing. Restore the video or remove its camera.")
    if path.stat().st_size == 0:
        raise InputError("CAP-149", f"{name} is empty (0 bytes). Copy or export it again.")
    with open_container(path, name) as container:
        stream = video_stream(container, name)
        codec = stream.codec_context
        check_size(codec.width, codec.height, name)
        decoder = alpha_decoder(stream) if claims_alpha(stream) else ""
        facts = VideoFacts(
            size=(codec.width, codec.height),
            frames=0,
            fps=float(stream.average_rate or stream.guessed_rate or 0.0),
            stamps=(),
            keys=(),
            has_alpha=bool(decoder or (codec.format and any(c.is_alpha for c in codec.format.components))),
            alpha_decoder=decoder,
            loses_alpha=claims_alpha(stream) and not decoder,
            transfer=TRANSFERS.get(int(codec.color_trc), ""),
            primaries=int(codec.color_primaries),
        )
        stamps, keys = frame_times(container, stream, path, name, decoder)
        # MPEG program streams state few times; the others are guessed, and guessed otherwise after a jump
        if container.format.name == "mpeg":
            facts, keys = replace(facts, is_counted=True), (0,)
        unit = Fraction(stream.time_base)
    if not stamps:
        raise InputError("CAP-150", f"{name} contains no frames. Copy or export it again.")
    fps = _rate(facts.fps, stamps, float(unit))
    facts = replace(facts, frames=len(stamps), stamps=stamps, keys=keys, fps=fps, unit=unit)
    tried = _tried(path, name, facts, *range(min(ASKED, facts.frames)), _last_affordable(facts))
    # the container's display matrix does not reach a decoder that was chosen by its name
    first = _tried(path, name, replace(facts, alpha_decoder=""), 0)[0] if facts.alpha_decoder else tried[0]
    check_matrix(int(first.colorspace), name)
    turn = orientation(first, name)
    # broadcast HLG names its transfer function beside the frames only; PyAV before 17 does not tell
    transfer = TRANSFERS.get(int(getattr(first, "color_trc", 0)), facts.transfer)
    interlaced = any(bool(frame.interlaced_frame) for frame in tried)
    size = turn.exchanged(facts.size)
    return replace(facts, size=size, orientation=turn, transfer=transfer, is_interlaced=interlaced)


def _tried(path: Path, name: str, facts: VideoFacts, *numbers: int) -> list[Any]:
    """Frames of a video that is closed again."""
    reader = VideoFile(path, name, facts)
    try:
        return [reader.read(number) for number in numbers]
    finally:
        reader.close()


def _last_affordable(facts: VideoFacts) -> int:
    """The last frame; or the last key frame where decoding from there to the end would take seconds."""
    last = facts.frames - 1
    key = facts.keys[-1] if facts.keys else 0
    return last if (last - key) * facts.size[0] * facts.size[1] < PIXELS_TO_PROBE else key


def _rate(claimed: float, stamps: tuple[int, ...], unit: float) -> float:
    """Frames per second as they lie in time; the container's own figure, a clean fraction, where it agrees."""
    if len(stamps) < 2 or stamps[-1] <= stamps[0]:
        return claimed
    measured = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * unit)
    return claimed if abs(claimed - measured) < 0.02 * measured else measured


class Handles:
    """Bounds how many video files are open at once; the one unused for longest is closed first."""

    def __init__(self, most: int = OPEN_AT_ONCE) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[int, VideoFile] = OrderedDict()

    def used(self, video: VideoFile) -> None:
        """`video` has been opened or read: keep it, close the oldest idle one if there are too many."""
        with self._lock:
            self._open[id(video)] = video
            self._open.move_to_end(id(video))
            for key, old in list(self._open.items()):
                if len(self._open) <= self._most:
                    break
                if old is not video and old.close(blocking=False):
                    del self._open[key]


class VideoFile:
    """Frames of one video by number. Thread-safe (one reader at a time); holds one open decoder at most."""

    def __init__(self, path: Path, name: str, facts: VideoFacts, handles: Handles | None = None) -> None:
        self.path, self.name, self.facts = path, name, facts
        self._handles = handles
        self._lock = threading.RLock()
        self._container: Any = None
        self._frames: Iterator[Any] | None = None
        self._is_read = False
        # number of the frame that the open decoder gives next
        self._next = 0
        # how often decoding had to start anew, the first time included
        self.seeks = 0

    def read(self, index: int, passing: Callable[[int, Any], None] | None = None) -> Any:
        """The decoded frame `index` (a PyAV VideoFrame). `passing` sees frames decoded on the way to it."""
        with self._lock, self._while_reading():
            frame = self._forward(index, passing) if self._reachable(index) else None
            for start in self._starts(index):
                if frame is not None:
                    break
                self._seek(start)
                frame = self._forward(index, passing)
            if self._handles is not None:
                self._handles.used(self)
        if frame is None:
            raise InputError(
                "CAP-155", f"{self.name}: frame {index} cannot be decoded. Copy or export the video again."
            )
        return frame

    def reopened(self) -> VideoFile:
        """The same video with a decoder of its own, which is not counted among the open ones."""
        return VideoFile(self.path, self.name, self.facts)

    @contextmanager
    def _while_reading(self) -> Generator[None]:
        """Inside, a file that is read in passing, by this thread, does not close this one."""
        self._is_read = True
        try:
            yield
        finally:
            self._is_read = False

    def close(self, blocking: bool = True) -> bool:
        """Close the decoder; False where it is in use and `blocking` is not wanted."""
        if not self._lock.acquire(blocking):
            return False
        try:
            if self._is_read and not blocking:
                return False
            self._frames = None
            if self._container is not None:
                self._container.close()
                self._container = None
        finally:
            self._lock.release()
        return True

    def _reachable(self, index: int) -> bool:
        """Whether going forwards is no slower than seeking: no key frame lies between here and `index`."""
        if self._frames is None or index < self._next:
            return False
        at = bisect_left(self.facts.keys, index + 1) - 1
        return at < 0 or self.facts.keys[at] <= self._next

    def _starts(self, index: int) -> list[int]:
        """Frames to seek to, one after the other, until decoding from there arrives at `index`.

        Some containers land after the wanted frame; then the key frame before that is tried, then the beginning.
        """
        # deinterlacing looks at the frame before
        index = max(index - int(self.facts.is_interlaced), 0)
        at = bisect_left(self.facts.keys, index + 1) - 1
        if at <= 0:
            return [0]
        # alpha cannot start at every key frame where the container may land
        first = self.facts.keys[at] if self.facts.alpha_decoder else index
        return list(dict.fromkeys((first, self.facts.keys[at - 1], 0)))

    def _seek(self, index: int) -> None:
        """Begin decoding at the key frame before `index`."""
        # a decoder that ran to its end takes no more: open afresh
        if self._frames is None or index == 0:
            self.close()
        if self._container is None:
            self._container = open_container(self.path, self.name)
            video_stream(self._container, self.name).thread_type = "NONE"
        stream = self._container.streams.video[0]
        if index > 0:
            try:
                self._container.seek(self.facts.stamps[index], stream=stream, backward=True)
            except (OSError, ValueError) as error:
                raise InputError(
                    "CAP-156", f"{self.name}: seeking to frame {index} failed. Export the video again."
                ) from error
        self.seeks += 1
        self._frames = guarded(self._decoded(stream, index), self.path, self.name)
        self._next = 0 if index == 0 else -1

    def _decoded(self, stream: Any, index: int) -> Iterator[Any]:
        """All frames from where the container lies; `index` is the frame that was sought."""
        stamps, alpha = self.facts.stamps, self.facts.alpha_decoder
        frames = (
            decode_alpha(self._container, stream, alpha, stamps[index])
            if alpha
            else self._container.decode(stream)
        )
        if self.facts.is_interlaced and (name := deinterlacer()):
            return deinterlaced(frames, name, stream.time_base, stamps[0])
        return frames

    def _forward(self, index: int, passing: Callable[[int, Any], None] | None) -> Any:
        for frame in self._frames or ():
            number = self._number(frame)
            self._next = number + 1
            if number == index:
                return frame
            if number > index:
                return None
            if passing is not None:
                passing(number, frame)
        self._frames = None
        return None

    def _number(self, frame: Any) -> int:
        """Which frame this is, by its time; by counting where it has none to rely on."""
        stamps = self.facts.stamps
        if frame.pts is None or self.facts.is_counted:
            return max(self._next, 0)
        at = bisect_left(stamps, frame.pts)
        if at == len(stamps) or (at > 0 and frame.pts - stamps[at - 1] < stamps[at] - frame.pts):
            at -= 1
        return at
