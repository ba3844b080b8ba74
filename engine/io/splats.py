"""A splat file of either format."""

from __future__ import annotations

from pathlib import Path

from ..scene import Gaussians
from .ply import read_ply
from .spz import read_spz

SUFFIXES = (".ply", ".spz")


def read_splat(path: Path) -> Gaussians:
    """The Gaussians of a .ply or .spz file. Raises InputError where it cannot be read."""
    return read_spz(path) if path.suffix.lower() == ".spz" else read_ply(path)
