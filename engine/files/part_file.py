"""Some frames of a rendering in one file, lossless: FFV1 in Matroska, with a tag that says which frames of which rendering.

Any program that plays FFV1 shows them. The tag has a hash of all pixels: decoders replace damaged areas without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import backends
from ..errors import InputError
from .atomic import check_writable, write_atomically
from .images import check_size
from .jsonfile import parse_json
from .mp4 import Pixels, even_size, frame_rate
from .paths import open_regular, printable

SUFFIX = ".mkv"
# Matroska's names are in capitals
TAG, FORMAT = "GS4D_PART", "gs4d-part"
VERSION = 1
MOST_FRAMES = 10_000_000
LONGEST_TEXT = 200
# frames per second; times are in milliseconds
FASTEST = 1000
NUMBERS = ("first", "stop", "frames", "width", "height")
TEXTS = ("background", "fingerprint", "renderer", "sha256")
# each frame is a key frame; four slices are encoded and decoded in parallel
CODEC = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1", "flags": "+bitexact"}
THREADS = 4
# no random numbers, and no checksum of the tag, which is completed at the end
CONTAINER = {"fflags": "+bitexact", "write_crc": "0"}
# bytes from the start in which the tag lies
HEAD = 1 << 16
# stands for the hash until all frames are written
UNKNOWN = "-" * 64


@dataclass(frozen=True)
class PartHeader:
    """Which frames of which rendering a file has."""

    first: int
    # the frame after the last one
    stop: int
    # of the whole rendering
    frames: int
    width: int
    height: int
    fps: float
    # as it was asked for, such as "scene", and its color in 0..1
    background: str
    color: tuple[float, float, float]
    # of scene, path and settings
    fingerprint: str
    # rasterizer and device, which may differ in the last bit
    renderer: str
    # of the frames' pixels; the writer finds it out
    sha256: str = ""

    @property
    def span(self) -> range:
        """The frames of the rendering that the file has."""
        return range(self.first, self.stop)


def check_part(target: Path) -> None:
    """InputError, before anything is rendered, where no part could be written to `target`."""
    backends.require("av")
    check_part_name(target)
    check_writable(target)


def check_part_name(target: Path) -> None:
    """InputError for a name that a part cannot have."""
    if target.suffix.lower() != SUFFIX:
        raise InputError(
            "FIL-153",
            f"{target.name}: a part of a rendering is written as {SUFFIX}. Name it {target.stem}{SUFFIX}.",
        )


@contextmanager
def part_writer(header: PartHeader, target: Path) -> Generator[Callable[[Pixels], None]]:
    """Give a function that adds a frame [H, W, 3] in 8 bits to a part; none of them stays in memory.

    When the block ends well, `target` is the part; otherwise nothing is left. The same frames give the same bytes.
    """
    check_part(target)
    # the whole could not be encoded
    even_size(header.width, header.height)
    import av

    digest = hashlib.sha256()
    with write_atomically(target) as partial:
        with av.open(str(partial), "w", format="matroska", container_options=CONTAINER) as container:
            stream: Any = container.add_stream("ffv1", rate=frame_rate(header.fps))
            stream.width, stream.height, stream.pix_fmt = header.width, header.height, "bgr0"
            stream.codec_context.thread_count, stream.options = THREADS, CODEC
            tag = {"format": FORMAT, "version": VERSION, **asdict(replace(header, sha256=UNKNOWN))}
            container.metadata[TAG] = json.dumps(tag)

            def add(pixels: Pixels) -> None:
                pixels = np.ascontiguousarray(pixels)
                digest.update(pixels.data)
                for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                    container.mux(packet)

            yield add
            for packet in stream.encode():
                container.mux(packet)
        _complete(partial, digest.hexdigest())


def _complete(path: Path, digest: str) -> None:
    """Write the hash of the pixels into the tag."""
    with open(path, "r+b") as file:
        file.seek(file.read(HEAD).index(UNKNOWN.encode()))
        file.write(digest.encode())


def read_header(path: Path) -> PartHeader:
    """What a part says about itself. Raises InputError where `path` is not a part, or not a whole one."""
    with _opened(path) as (container, header):
        if not _has_last_frame(container, header):
            raise _damaged(path, header)
        return header


def read_frames(path: Path) -> Iterator[Pixels]:
    """The frames of a part in order, each [H, W, 3] in 8 bits. Raises InputError where one is missing or damaged."""
    from av.error import FFmpegError

    with _opened(path) as (container, header):
        stream = container.streams.video[0]
        stream.codec_context.thread_count = THREADS
        digest, count = hashlib.sha256(), 0
        try:
            for frame in container.decode(stream):
                count += 1
                is_odd = (frame.width, frame.height) != (header.width, header.height)
                if is_odd or count > len(header.span):
                    raise _damaged(path, header)
                # small frames come with unused bytes between their rows
                pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
                digest.update(pixels.data)
                yield pixels
        except (FFmpegError, OSError, ValueError) as error:
            raise _damaged(path, header) from error
        if count != len(header.span) or digest.hexdigest() != header.sha256:
            raise _damaged(path, header)


@contextmanager
def _opened(path: Path) -> Generator[tuple[Any, PartHeader]]:
    """A part's container and header."""
    backends.require("av")
    import av
    from av.error import FFmpegError

    name = printable(path.name)
    with _file(path, name) as file:
        try:
            container: Any = av.open(file, format="matroska", metadata_errors="replace")
        except (FFmpegError, OSError, ValueError) as error:
            raise _strange(name) from error
        with container:
            header = _header(container.metadata.get(TAG, ""), name)
            check_size(header.width, header.height, name)
            codecs = [video.codec_context for video in container.streams.video]
            if [(c.name, c.width, c.height) for c in codecs if c] != [("ffv1", header.width, header.height)]:
                raise _strange(name)
            yield container, header


@contextmanager
def _file(path: Path, name: str) -> Generator[BinaryIO]:
    try:
        file = open_regular(path)
    except OSError as error:
        raise InputError(
            "FIL-154", f"{name} cannot be read: {error.strerror}. Check the file and its permissions."
        ) from error
    with file:
        yield file


def _header(text: str, name: str) -> PartHeader:
    """The header in a tag. Raises InputError."""
    version = 0
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        tag = parse_json(text)
        version = int(tag["version"])
        red, green, blue = (float(value) for value in tag["color"])
        first, stop, frames, width, height = (int(tag[key]) for key in NUMBERS)
        background, fingerprint, renderer, sha256 = (str(tag[key])[:LONGEST_TEXT] for key in TEXTS)
        header = PartHeader(
            first, stop, frames, width, height, float(tag["fps"]), background, (red, green, blue),
            fingerprint, renderer, sha256,
        )  # fmt: skip
        is_sound = 0 <= first < stop <= frames <= MOST_FRAMES and 0 < header.fps <= FASTEST
        if tag["format"] == FORMAT and version == VERSION and is_sound:
            return header
    if version > VERSION:
        raise InputError("FIL-155", f"{name} is a part of version {version}. Update the pack to read it.")
    raise _strange(name)


def _has_last_frame(container: Any, header: PartHeader) -> bool:
    """Whether the last frame is there, without reading the others."""
    from av.error import FFmpegError

    stream = container.streams.video[0]
    last = (len(header.span) - 1) / frame_rate(header.fps)
    # Matroska rounds times to milliseconds
    least = int(last / stream.time_base) - 1
    with suppress(FFmpegError, OSError, ValueError):
        container.seek(max(least, 0), stream=stream, backward=True)
        return any(packet.size and (packet.pts or 0) >= least for packet in container.demux(stream))
    return False


def _strange(name: str) -> InputError:
    return InputError(
        "FIL-156", f"{name} is not a part of a rendering. Give files that `render --part` wrote."
    )


def _damaged(path: Path, header: PartHeader) -> InputError:
    frames = f"{header.first}:{header.stop}"
    return InputError(
        "FIL-157",
        f"{printable(path.name)} is cut off or damaged. Copy it again, or render its frames again with --part {frames}.",
    )
