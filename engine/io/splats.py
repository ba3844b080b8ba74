"""A splat file of any format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..scene import Gaussians
from ..scene.cameras import AT_ZERO, Origin
from .ksplat import read_ksplat
from .ply import ply_origin, read_ply, usable, write_ply
from .sog import read_sog
from .splat_file import read_splat_file
from .spz import read_spz, write_spz

SUFFIXES = (".ply", ".spz", ".splat", ".sog", ".ksplat")
# splat files of other programs, with what to do about them
UNREADABLE = {
    ".lcc": "convert it to .ply with splat-transform",
    ".rad": "export the splat it was made of",
}


@dataclass(frozen=True)
class Format:
    """A format that splats are written in: how its files end, and what writes one from Gaussians and their origin."""

    suffix: str
    write: Callable[[Gaussians, Path, Origin], Path]


# by the names that Export 4D Scene gives them; each can be the format of a sequence
WRITTEN = {
    "ply": Format(".ply", lambda gaussians, path, origin: write_ply(gaussians, path, origin=origin)),
    "spz": Format(".spz", lambda gaussians, path, origin: write_spz(gaussians, path)),
}


def splat_origin(path: Path) -> Origin:
    """What the positions of a splat file are relative to, as this pack's .ply notes it; zero for all others."""
    return ply_origin(path) if path.suffix.lower() == ".ply" else AT_ZERO


def read_splat(path: Path, as_stored: bool = False) -> Gaussians:
    """The Gaussians of a file of a format in SUFFIXES.

    Args:
        path: The file.
        as_stored: As in `read_ply`; the other formats have float32 positions, and .spz and .sog have finite values.

    Raises:
        InputError: The file cannot be read, it is of another format, or no Gaussian of it has finite numbers.
    """
    suffix = path.suffix.lower()
    if suffix in UNREADABLE:
        raise InputError("IO-087", f"{path.name}: {suffix} files cannot be read; {UNREADABLE[suffix]}.")
    if suffix == ".spz":
        return read_spz(path)
    if suffix == ".sog":
        return read_sog(path)
    if suffix == ".ksplat":
        return usable(read_ksplat(path), path.name, as_stored)
    if suffix == ".splat":
        return usable(read_splat_file(path), path.name, as_stored)
    return read_ply(path, as_stored)
