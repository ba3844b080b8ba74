"""Join the parts of a rendering to one video, with the bytes that one run would have written.

The parts are those of `steps.render_scene.to_part`, in any order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import InputError
from ..files.mp4 import check_video, mp4_writer
from ..files.part_file import PartHeader, read_frames, read_header
from ..files.paths import printable
from ..messages import Finished, Progress, Started, Stream
from .part import in_words

__all__ = ["check_output", "run"]

# gaps that a message lists
LISTED = 5


def check_output(parts: Sequence[Path], target: Path) -> None:
    """InputError where the video would replace a part, or could not be written."""
    for path in parts:
        if os.path.realpath(path) == os.path.realpath(target):
            raise InputError(
                "REN-009", f"{printable(target.name)} is one of the parts. Give --out another name."
            )
    check_video(target)


def run(parts: Sequence[Path], target: Path) -> Stream:
    """Join the parts of a rendering, frame by frame: memory does not grow with their length.

    Args:
        parts: The files that `render_scene.to_part` wrote, in any order.
        target: The .mp4 file; it is replaced when the last frame is written, and untouched if the stream is closed before.

    Yields:
        Started, Progress for each frame, and Finished with `target`, with a note where the parts were rendered differently.

    Raises:
        InputError: A part is missing, damaged, given twice or of another rendering; or the file cannot be written.

    Example:
        messages.result(join_parts.run([Path("a.mkv"), Path("b.mkv")], Path("orbit.mp4")))
    """
    check_output(parts, target)
    headers = {path: read_header(path) for path in _different(parts)}
    ordered = sorted(headers, key=lambda path: headers[path].first)
    _check_alike(headers)
    _check_order([(path, headers[path]) for path in ordered])
    first = headers[ordered[0]]
    done = 0
    with mp4_writer(first.fps, target) as add:
        yield Started(
            first.frames, f"{first.frames} frames of {first.width}×{first.height} in {len(parts)} parts"
        )
        for path in ordered:
            for pixels in read_frames(path):
                add(pixels)
                done += 1
                yield Progress(done)
    yield Finished(target, _note(list(headers.values())))


def _different(parts: Sequence[Path]) -> list[Path]:
    """The parts again. Raises InputError where one file is given twice."""
    places: set[str] = set()
    for path in parts:
        place = os.path.realpath(path)
        if place in places:
            raise InputError("REN-010", f"{printable(path.name)} is given twice. Give each part once.")
        places.add(place)
    return list(parts)


def _check_alike(headers: dict[Path, PartHeader]) -> None:
    """Raise InputError where two parts do not belong to one rendering."""
    (path, first), *others = headers.items()
    for other, header in others:
        difference = _difference(first, header)
        if difference:
            raise InputError(
                "REN-011",
                f"{printable(other.name)} belongs to another rendering than {printable(path.name)}: {difference}. Render all "
                "parts of the same scene with the same settings.",
            )


def _difference(a: PartHeader, b: PartHeader) -> str:
    """What tells two renderings apart; empty where nothing does."""
    if (a.width, a.height) != (b.width, b.height):
        return f"its frames have {b.width}×{b.height} pixels instead of {a.width}×{a.height}"
    if a.fps != b.fps:
        return f"it has {b.fps:g} frames per second instead of {a.fps:g}"
    if a.frames != b.frames:
        return f"its camera path has {b.frames} frames instead of {a.frames}"
    if (a.background, a.color) != (b.background, b.color):
        return f"its background is {printable(b.background)} instead of {printable(a.background)}"
    return "" if a.fingerprint == b.fingerprint else "its scene, camera path or settings differ"


def _check_order(ordered: list[tuple[Path, PartHeader]]) -> None:
    """Raise InputError where frames are there twice or not at all."""
    for (path, header), (other, following) in pairwise(ordered):
        if following.first < header.stop:
            both = range(following.first, min(header.stop, following.stop))
            raise InputError(
                "REN-012",
                f"{printable(path.name)} and {printable(other.name)} both have the frames {in_words(both)}. Leave one "
                "of them out.",
            )
    ends = [0, *(header.stop for _, header in ordered)]
    starts = [*(header.first for _, header in ordered), ordered[0][1].frames]
    gaps = [in_words(range(end, start)) for end, start in zip(ends, starts, strict=True) if end < start]
    if gaps:
        more = f" and {len(gaps) - LISTED} more gaps" if len(gaps) > LISTED else ""
        raise InputError(
            "REN-013",
            f"The frames {', '.join(gaps[:LISTED])}{more} of {in_words(range(ordered[0][1].frames))} are missing. Render them "
            f"with --part {gaps[0]} and give all parts.",
        )


def _note(headers: list[PartHeader]) -> str:
    """What may differ from one run."""
    renderers = sorted({printable(header.renderer) for header in headers})
    if len(renderers) < 2:
        return ""
    return f"The parts were rendered by {' and '.join(renderers)}, whose images may differ by rounding."
