"""A splat file of either format."""

from __future__ import annotations

from pathlib import Path

from ..scene import Gaussians
from .ply import read_ply
from .spz import read_spz

SUFFIXES = (".ply", ".spz")


def read_splat(path: Path, as_stored: bool = False) -> Gaussians:
    """The Gaussians of a .ply or .spz file; `as_stored` is that of `read_ply`. Raises InputError where it cannot be read."""
    return read_spz(path) if path.suffix.lower() == ".spz" else read_ply(path, as_stored)
