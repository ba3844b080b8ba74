"""Interlaced video as one whole frame from each two fields, as it was at the time of the first of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

# FFmpeg's deinterlacers, the better one first: each looks at a frame and the ones before and after it
FILTERS = ("bwdif", "yadif")
# one frame for each frame, field order as each frame says, frames that are not interlaced left alone
OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"
# frames from the start that are asked whether they are interlaced
ASKED = 3


@cache
def deinterlacer() -> str:
    """The deinterlacing filter of this build of FFmpeg; empty where it has none."""
    import av.filter

    return next((name for name in FILTERS if name in av.filter.filters_available), "")


def deinterlaced(frames: Iterable[Any], name: str, time_base: Any, first: int) -> Iterator[Any]:
    """The same frames without combs.

    Args:
        frames: Decoded frames in order, all of one size and pixel format.
        name: One of `FILTERS`.
        time_base: Seconds of their time stamps' unit.
        first: The time stamp of the video's first frame.

    Yields:
        Each frame with its own time stamp; without the first one where that is not the video's first, since it lacks the
        frame before it and would come out otherwise than when the video is read from its start.
    """
    made = _filtered(frames, name, time_base)
    for frame in made:
        if frame.pts is None or frame.pts <= first:
            yield frame
        break
    yield from made


def _filtered(frames: Iterable[Any], name: str, time_base: Any) -> Iterator[Any]:
    graph: Any = None
    stamps: deque[Any] = deque()
    for frame in frames:
        if graph is None:
            graph = _graph(frame, name, time_base)
        stamps.append(frame.pts)
        graph.push(frame)
        yield from _pulled(graph, stamps)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, stamps)


def _graph(frame: Any, name: str, time_base: Any) -> Any:
    from av.filter import Graph

    graph: Any = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=time_base
    )
    middle, sink = graph.add(name, OPTIONS), graph.add("buffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Any, stamps: deque[Any]) -> Iterator[Any]:
    """The frames that the filter has ready. It halves the unit of time stamps; they get their own back."""
    from av.error import BlockingIOError as NotYet
    from av.error import EOFError as NoMore

    while True:
        try:
            frame = graph.pull()
        except (NotYet, NoMore):
            return
        frame.pts = stamps.popleft()
        yield frame
