"""Color look-up tables: the files that a list offers."""

from __future__ import annotations

from pathlib import Path

from ..engine.errors import InputError
from ..engine.io.cube_file import SUFFIX
from . import folders

NONE = "none"


def tables() -> list[str]:
    """none, then .cube files in input, output and models/gs4d, newest first."""
    return [NONE, *folders.files([SUFFIX])]


def table_file(choice: str) -> Path | None:
    """The path of a chosen table, None where there is none; raises InputError if it is missing or outside the folders."""
    if choice.strip() in ("", NONE):
        return None
    path = folders.readable(choice)
    if not path.is_file() or path.suffix.lower() != SUFFIX:
        raise InputError(
            "GRD-016", f"'{choice}' is not a .cube file; choose a color look-up table of the list."
        )
    return path
