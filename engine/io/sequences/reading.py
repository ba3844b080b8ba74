"""A folder or zip with one splat file per frame, read as a moving scene."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ... import backends
from ...deform.correspondence import is_same_order, matching_rows
from ...deform.moments import mending_note, scene_of_moments
from ...errors import InputError
from ...messages import Message, Progress
from ...scene import Gaussians, Scene4D
from ...scene.cameras import Origin
from ...wording import printable
from ..splats import axes_note, read_splat, splat_origin
from .description import NAME, Description, read_description
from .frame_names import Numbering, one_clip
from .sources import Files

# frames per second where nothing says it: animation tools export at the rate of film
USUAL_FPS = 24.0
# in a sequence: 2 GB, and as much again while it is put together
MOST_NUMBERS = 500_000_000
BYTES_PER_NUMBER = 8


@dataclass
class _Frames:
    """The frames that were read, the rows of each in the order of the first where that can be told."""

    frames: list[Gaussians] = field(default_factory=list[Gaussians])
    origins: list[Origin] = field(default_factory=list[Origin])
    # frames whose rows were put into the order of the one before
    matched: int = 0
    # names of two files in a row whose Gaussians are not the same
    apart: tuple[str, str] | None = None


def read_sequence(
    files: Files, fps: float, up: Tensor, blends: bool, trusts_order: bool, step: str
) -> Generator[Message, None, Scene4D]:
    """The scene of a sequence; its history says what was found and assumed.

    Frames with equal counts are compared: where equal rows are the same Gaussian, or can be brought into one order, frames are
    interpolated, else each is held until the next, as births and deaths.

    Args:
        files: The frames' files, at least one.
        fps: Frames per second; 0 takes the sequence's own rate, else USUAL_FPS.
        up: The up axis [3].
        blends: Whether corresponding frames are interpolated.
        trusts_order: Take equal rows for the same Gaussian without comparing them.
        step: The step that the history names.

    Yields:
        Progress for each file.

    Returns:
        The scene.

    Raises:
        InputError: The files are not of one clip and format, one of them cannot be read, none holds Gaussians, or they need more
            memory than there is.
    """
    name = printable(files.source.name)
    _check_formats(files, name)
    clip = one_clip(files.names, files.source.name)
    names = [files.names[i] for i in clip.order]
    limit = min(BYTES_PER_NUMBER * MOST_NUMBERS, backends.free_memory())
    _check_sizes(files, name, limit)
    read, axes = _Frames(), ""
    with files.opened() as path_of:
        description = read_description(path_of(NAME), NAME) if files.has_description else None
        is_held = description is not None and not description.interpolated
        blends, held_by = blends and not is_held, f", as {NAME} says" if is_held else ""
        largest = 0
        for i, file in enumerate(names):
            frame, origin = _frame(path_of(file), f"{name}, frame {i + 1} of {len(names)}")
            largest = max(largest, sum(t.numel() for t in frame.tensors().values()))
            _check_need(
                len(names) * largest,
                name,
                f"{len(names)} files such as {file} ({len(frame):,} Gaussians)",
                limit,
            )
            if blends and not trusts_order and read.apart is None and read.frames:
                frame = _followed(frame, read, (names[i - 1], file))
            # those that this pack wrote have a description
            if i == 0 and not files.has_description:
                axes = axes_note(path_of(file))
            read.frames.append(frame)
            read.origins.append(origin)
            yield Progress(i + 1, count=len(frame))
    if not any(len(frame) for frame in read.frames):
        raise InputError(
            "STP-021", f"{name}: none of its {len(names)} files holds Gaussians; export them again."
        )
    counts = sorted({len(frame) for frame in read.frames})
    follows = blends and len(counts) == 1 and read.apart is None
    seconds, rate, timing = _times(clip, description, fps)
    notes = [timing, clip.note, _correspondence(read, counts, blends, held_by, trusts_order)]
    scene = scene_of_moments(read.frames, rate, up, follows, read.origins, seconds)
    notes = [*(notes if len(names) > 1 else []), axes, mending_note(scene)]
    return scene.with_history(
        step,
        source=files.source.name,
        gaussians=len(scene.canonical),
        moments=len(names),
        fps=rate,
        note="\n".join(filter(None, notes)),
    )


def _frame(path: Path, place: str) -> tuple[Gaussians, Origin]:
    try:
        return read_splat(path, as_stored=True), splat_origin(path)
    except InputError as error:
        raise error.at(place) from error


def _check_formats(files: Files, name: str) -> None:
    if len({Path(file).suffix.lower() for file in files.names}) > 1:
        raise InputError(
            "STP-019", f"{name} holds splat files of several formats; leave the frames of one format in it."
        )


def _check_sizes(files: Files, name: str, limit: float) -> None:
    """Before anything is read: a file takes more memory than it has bytes."""
    _check_need(sum(files.sizes) / BYTES_PER_NUMBER, name, f"{len(files.names)} files", limit)


def _check_need(numbers: float, name: str, what: str, limit: float) -> None:
    need = BYTES_PER_NUMBER * numbers
    if need > limit:
        raise InputError(
            "STP-020",
            f"{name}: {what} need {need / 1e9:.2g} GB of memory, more than is taken for one scene or is free "
            f"({limit / 1e9:.2g} GB); leave every second file out, or export them with fewer Gaussians.",
        )


def _followed(frame: Gaussians, read: _Frames, names: tuple[str, str]) -> Gaussians:
    """A frame with its rows in the order of the one before; as it is where that cannot be told."""
    before = read.frames[-1]
    # different counts are births and deaths
    if len(frame) != len(before):
        read.apart = names
        return frame
    if is_same_order(before, frame):
        return frame
    rows = matching_rows(before, frame)
    if rows is None:
        read.apart = names
        return frame
    read.matched += 1
    return frame.map(lambda t: t[rows])


def _correspondence(read: _Frames, counts: list[int], blends: bool, held_by: str, trusts_order: bool) -> str:
    """A line on how the Gaussians of the frames belong together."""
    if not blends:
        return f"Each frame is held until the next{held_by}."
    if len(counts) > 1:
        return (
            f"The frames have {counts[0]:,} to {counts[-1]:,} Gaussians: taken for births and deaths, and each frame is held "
            "until the next."
        )
    if read.apart is not None:
        first, second = map(printable, read.apart)
        return (
            f"The Gaussians of {second} are not those of {first} (other order, places and colors): taken for births and deaths, "
            "and each frame is held until the next."
        )
    if trusts_order:
        return f"{counts[0]:,} Gaussians, the same in all frames by their order, which was not checked."
    if read.matched:
        total = len(read.frames)
        return (
            f"{counts[0]:,} Gaussians, the same in all frames: {read.matched} of {total} files have another order than the "
            "one before and were matched by place and looks."
        )
    return f"{counts[0]:,} Gaussians, the same in all frames by their order."


def _times(clip: Numbering, description: Description | None, fps: float) -> tuple[Tensor, float, str]:
    """The times [T] of the frames, the frame rate, and a line on where they come from."""
    count = len(clip.order)
    stored = description.fps if description is not None else 0.0
    rate = fps or stored or USUAL_FPS
    places = clip.places
    lacks = ""
    if description is not None and description.frames:
        # ours are numbered from 0
        if clip.numbers and clip.numbers[-1] < description.frames:
            places = clip.numbers if not fps else places
        if description.frames != count:
            lacks = f" It lists {description.frames:,} frames."
        if description.seconds and not fps and places[-1] < len(description.seconds):
            times = [description.seconds[place] for place in places]
            return (
                torch.tensor(times, dtype=torch.float64),
                rate,
                f"{count:,} frames at the times in {NAME}.{lacks}",
            )
    seconds = torch.tensor([place / rate for place in places], dtype=torch.float64)
    frames = f"{count:,} frame{'s' if count != 1 else ''}, {rate:.5g} per second"
    if fps:
        return seconds, rate, f"{frames}."
    if stored:
        return seconds, rate, f"{frames}, as {NAME} says.{lacks}"
    return seconds, rate, f"{frames}, which no file says: set frames per second if it is another rate."
