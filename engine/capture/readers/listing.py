"""Image files of folders by the frame numbers or times in their names."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from ...errors import InputError
from ...files.folders import MOST_DIGITS
from ...files.images import images_in
from ...files.paths import printable, relative_name, require_file
from ..view_images import ImageFile
from .name_times import read_times

Label = TypeVar("Label", bound=Hashable)
# the digit runs of a name that count
Number = tuple[int, ...]

# by how much more numbers must be shared between folders for another digit run than the last one to count frames
MORE_SHARED = 1.1


def last_number(name: str) -> int | None:
    """The last number in a name: 3 for 'cam03', 12 for 'cam03_frame_0012'; None where there is none."""
    found = re.findall(r"\d{1,12}", name)
    return int(found[-1]) if found else None


@dataclass(frozen=True)
class Place:
    """A folder of images, all of them or those that match a pattern with one %05d."""

    directory: Path
    pattern: str | None = None
    where: str = ""  # for messages


@dataclass(frozen=True)
class Numbering:
    """The files of several places by frame number; in nanoseconds where their names are times."""

    files: list[dict[int, Path]]  # of each place
    time_unit: str = ""  # how times were read, in words; "" where names are numbers
    notes: list[str] = field(default_factory=list[str])

    def images(self, folder: Path) -> list[dict[int, ImageFile]]:
        """Images of each place by frame index, or by nanoseconds where names are times."""
        if self.time_unit:
            return [image_files(files, folder, {n: n for n in files}) for files in self.files]
        moments = moments_of(self.files)
        return [image_files(files, folder, moments) for files in self.files]


@dataclass(frozen=True)
class _File:
    path: Path
    digits: str  # where the frame number is: the name without suffix, or what stands for %05d


def number_images(places: Sequence[Place], folder: Path, fps: float | None = None) -> Numbering:
    """Frame numbers of all images of a capture, by what varies in their names.

    Digit runs that are the same in all names of each folder are ignored. Of the others, the last one that tells a folder's
    images apart counts the frames, or all of them together, or they are a time.

    Args:
        places: Folders of images, of masks or of depth maps whose frames belong together.
        folder: The capture, to which names in messages are relative.
        fps: The frame rate that the capture states.

    Returns:
        Files by frame number.

    Raises:
        InputError: A place has no numbered images or two with the same number, or a file is empty.
    """
    listed = [_listed(place, folder) for place in places]
    names = [[file.digits for file in files] for files in listed]
    times = read_times(names, fps) if names else None
    if times is not None:
        return Numbering(_by_number(places, listed, times.stamps, folder), times.unit)
    numbers = _numbers(names)
    if all(len(number) == 1 for group in numbers for number in group):
        return Numbering(_by_number(places, listed, [[n for (n,) in group] for group in numbers], folder))
    rank = moments_of(numbers)
    ranks = [[rank[number] for number in group] for group in numbers]
    runs = max(len(number) for group in numbers for number in group)
    example = min((file.path.name for file in listed[0]), key=len)
    note = f"Image names such as {printable(example)} are ordered by {runs} numbers that vary."
    return Numbering(_by_number(places, listed, ranks, folder), notes=[note])


def _listed(place: Place, folder: Path) -> list[_File]:
    """The images of a place that have a number. InputError where there are none."""
    expression = None
    if place.pattern is not None:
        before, after = re.split(r"%0?\d*d", place.pattern)
        expression = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    found: list[_File] = []
    for path in images_in(place.directory):
        if expression is None:
            digits = path.stem if re.search(r"\d", path.stem) else ""
        else:
            match = expression.fullmatch(path.name)
            digits = match[1] if match else ""
        if digits:
            found.append(_File(path, digits))
    if not found:
        wanted = printable(place.pattern) if place.pattern else "frame_00001.jpg …"
        error = InputError(
            "CAP-131",
            f"{relative_name(place.directory, folder)} does not contain any numbered images. Add images named "
            f"like {wanted}.",
        )
        raise error.at(place.where) if place.where else error
    return found


def _by_number(
    places: Sequence[Place], listed: Sequence[list[_File]], numbers: Sequence[Sequence[int]], folder: Path
) -> list[dict[int, Path]]:
    """Frame number → file, for each place. InputError where two files have one number, or one is empty."""
    made: list[dict[int, Path]] = []
    for place, files, group in zip(places, listed, numbers, strict=True):
        found: dict[int, Path] = {}
        try:
            for file, number in zip(files, group, strict=True):
                if number in found:
                    raise InputError(
                        "CAP-130",
                        f"{relative_name(found[number], folder)} and {relative_name(file.path, folder)} have the "
                        "same frame number. Rename or remove one.",
                    )
                found[number] = require_file(file.path, folder, "copy it again")
        except InputError as error:
            raise error.at(place.where) if place.where else error from error
        made.append(found)
    return made


def _numbers(names: Sequence[Sequence[str]]) -> list[list[Number]]:
    """The digit runs of each name that count frames."""
    runs = [[_runs(name) for name in group] for group in names]
    if len({len(each) for group in runs for each in group}) == 1:
        return _counting(runs)
    return [
        _counting([group])[0] if len({len(each) for each in group}) == 1 else [each[-1:] for each in group]
        for group in runs
    ]


def _runs(name: str) -> Number:
    return tuple(int(digits[-MOST_DIGITS:]) for digits in re.findall(r"\d+", name))


def _counting(groups: list[list[Number]]) -> list[list[Number]]:
    """Of names with equally many digit runs: the one run that tells all names of a folder apart, else all that vary."""
    count = len(groups[0][0])
    varying = [r for r in range(count) if any(len({each[r] for each in group}) > 1 for group in groups)]
    telling = [r for r in varying if all(len({each[r] for each in group}) == len(group) for group in groups)]
    chosen = varying or [count - 1]
    if telling:
        shared = {r: _shared([[each[r] for each in group] for group in groups]) for r in telling}
        best = max(telling, key=lambda r: shared[r])
        last = best if shared[best] > MORE_SHARED * shared[telling[-1]] else telling[-1]
        before = [r for r in varying if r < last]
        chosen = [*before, last] if _wraps(groups, before, last) else [last]
    return [[tuple(each[r] for r in chosen) for each in group] for group in groups]


def _wraps(groups: list[list[Number]], before: list[int], last: int) -> bool:
    """Whether a run starts again each time that a run before it changes, as seconds do with each minute."""
    if not before:
        return False
    by_last = [sorted(group, key=lambda each: each[last]) for group in groups]
    heads = [[tuple(each[r] for r in before) for each in group] for group in by_last]
    changes = [sum(one != other for one, other in pairwise(head)) for head in heads]
    is_grouped = all(n == len(set(head)) - 1 for n, head in zip(changes, heads, strict=True))
    return is_grouped and any(head != sorted(head) for head in heads)


def _shared(groups: list[list[int]]) -> float:
    """In how many folders each number occurs, on average."""
    return sum(map(len, groups)) / len({number for group in groups for number in group})


def moments_of(numbers: Iterable[Iterable[Label]]) -> dict[Label, int]:
    """Frame number → frame index, over the numbers that any view has."""
    return {n: moment for moment, n in enumerate(sorted({n for view in numbers for n in view}))}  # pyright: ignore


def image_files(files: Mapping[int, Path], folder: Path, moments: Mapping[int, int]) -> dict[int, ImageFile]:
    """Frame index → image."""
    return {moments[n]: ImageFile(path, relative_name(path, folder)) for n, path in files.items()}
