"""Image files of a folder by the frame number in their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import InputError
from ...files.folders import visible
from ...files.images import SUFFIXES
from ...files.paths import printable, relative_name, require_file
from ..frames import ImageFile


def last_number(name: str) -> int | None:
    """The last number in a name: 3 for 'cam03', 12 for 'cam03_frame_0012'; None where there is none."""
    found = re.findall(r"\d{1,12}", name)
    return int(found[-1]) if found else None


def numbered_images(directory: Path, folder: Path, pattern: str | None = None) -> dict[int, Path]:
    """Frame number → image file of `directory`, for all images or those that match `pattern` (one %05d).

    InputError, with names relative to `folder`: none at all, two with the same number, empty files.
    """
    expression = None
    if pattern is not None:
        before, after = re.split(r"%0?\d*d", pattern)
        expression = re.compile(rf"{re.escape(before)}(\d{{1,12}}){re.escape(after)}")
    found: dict[int, Path] = {}
    for file in visible(directory):
        if file.suffix.lower() not in SUFFIXES:
            continue
        match = expression.fullmatch(file.name) if expression else None
        number = int(match[1]) if match else last_number(file.stem) if expression is None else None
        if number is None:
            continue
        if number in found:
            raise InputError(
                "CAP-130",
                f"{relative_name(found[number], folder)} and {relative_name(file, folder)} have the same "
                "frame number. Rename or remove one.",
            )
        found[number] = require_file(file, folder, "copy it again")
    if not found:
        wanted = printable(pattern) if pattern else "frame_00001.jpg …"
        raise InputError(
            "CAP-131",
            f"{relative_name(directory, folder)} does not contain any numbered images. Add images named "
            f"like {wanted}.",
        )
    return found


def moments_of(numbers: Iterable[Iterable[int]]) -> dict[int, int]:
    """Frame number → frame index, over the numbers that any view has."""
    return {n: moment for moment, n in enumerate(sorted({n for view in numbers for n in view}))}


def image_files(files: dict[int, Path], folder: Path, moments: dict[int, int]) -> dict[int, ImageFile]:
    """Frame index → image."""
    return {moments[n]: ImageFile(path, relative_name(path, folder)) for n, path in files.items()}
