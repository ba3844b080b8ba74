"""Writing images as an H.264 video with PyAV: of the same images, the same bytes on any number of cores."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import backends
from ..errors import InputError
from .atomic import check_writable, write_atomically

# [H, W, 3] RGB
Pixels = NDArray[np.uint8]
# x264's. Its bytes depend on their number, and PyAV's own choice, one per core within a frame, varies from run to run
THREADS = 4
# no shortcuts of one kind of CPU
X264 = "cpu-independent=1"
# FFmpeg's, without those of one kind of CPU either. Its own choice of color matrix, at any size, is BT.601
CONVERSION = "flags=bilinear+accurate_rnd+bitexact:out_color_matrix=bt709:out_range=tv"
# primaries, transfer function and matrix of BT.709 have the same number in H.273; sRGB's transfer function would be 13
BT709 = 1
# of color ranges, as FFmpeg numbers them
LIMITED_RANGE = 1


def check_video(target: Path) -> None:
    """InputError, before anything is rendered, where no mp4 could be written to `target`."""
    backends.require("av")
    check_video_name(target)
    check_writable(target)


def check_video_name(target: Path) -> None:
    """InputError for a name that a video cannot have."""
    if target.suffix.lower() != ".mp4":
        raise InputError("FIL-020", f"{target.name}: videos are written as .mp4. Name it {target.stem}.mp4.")


def pixels_of(image: Tensor) -> Pixels:
    """An image [H, W, 3] in 0..1 in 8 bits, as it is encoded."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous().numpy()


def frame_rate(fps: float) -> Fraction:
    """Frames per second as videos state it."""
    return Fraction(fps).limit_denominator(1001)


def even_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of a video of such images. Raises InputError where nothing is left."""
    if width < 2 or height < 2:
        raise InputError(
            "FIL-021",
            f"Images of {width} × {height} pixels are too small for a video. Use at least 2 × 2.",
        )
    return width // 2 * 2, height // 2 * 2


def tag_colors(stream: Any) -> None:
    """Let a stream, and its container, say that its colors are BT.709 in limited range, so that no player has to guess.

    The transfer function is called BT.709's too, although images are sRGB. Players without color management show either as it
    is stored, Chromium takes both for sRGB, and editors know SDR video as BT.709 alone.
    """
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE


def write_mp4(images: Iterable[Tensor], fps: float, target: Path, crf: int = 18) -> Path:
    """Images [H, W, 3] in 0..1 as an mp4 that every browser plays (yuv420p); odd sizes lose their last row or column.

    Written to a temporary name first. `crf`: 0 is lossless, 23 is usual, more is smaller. Raises InputError.
    """
    with mp4_writer(fps, target, crf) as add:
        for image in images:
            add(image)
    return target


@contextmanager
def mp4_writer(
    fps: float, target: Path, crf: int = 18, metadata: Mapping[str, str] | None = None
) -> Generator[Callable[[Tensor | Pixels], None]]:
    """Give a function that adds an image to an mp4, so that no more than the encoder's own frames are in memory.

    The function takes [H, W, 3], float in 0..1 or what `pixels_of` makes of it. When the block ends well, `target` is the file
    that `write_mp4` makes of the same images; otherwise nothing is left. `metadata` are tags of the container, of any name.
    """
    check_video(target)
    import av

    # of names that are not the format's own
    options = {"movflags": "use_metadata_tags"} if metadata else {}
    with (
        write_atomically(target) as partial,
        av.open(str(partial), "w", format="mp4", options=options) as container,
    ):
        container.metadata.update(metadata or {})
        stream: Any = None
        graph: Any = None
        count = 0

        def add(image: Tensor | Pixels) -> None:
            nonlocal stream, graph, count
            width, height = even_size(image.shape[1], image.shape[0])
            if stream is None:
                stream = container.add_stream("libx264", rate=frame_rate(fps))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", THREADS
                stream.options = {"crf": str(crf), "x264-params": X264}
                tag_colors(stream)
                graph = _to_yuv(width, height, 1 / frame_rate(fps))
            pixels = image if isinstance(image, np.ndarray) else pixels_of(image)
            pixels = np.ascontiguousarray(pixels[:height, :width])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = count
            count += 1
            graph.push(frame)
            for packet in stream.encode(graph.pull()):
                container.mux(packet)

        yield add
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)


def _to_yuv(width: int, height: int, time_base: Fraction) -> Any:
    """What converts RGB frames, pushed one by one. Older versions of PyAV cannot be asked for exact rounding."""
    from av.filter import Graph

    graph: Any = Graph()
    chain = [
        graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base),
        graph.add("scale", CONVERSION),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    for first, second in pairwise(chain):
        first.link_to(second)
    graph.configure()
    return graph
