"""A splat file of any format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.paths import printable, read_regular
from ..scene import Gaussians
from ..scene.cameras import AT_ZERO, Origin
from .compressed_ply_writing import write_compressed_ply
from .gltf.splat_reading import read_gltf_splat
from .gltf.splat_writing import write_glb
from .ksplat import read_ksplat
from .ply import ply_origin, read_ply, usable, write_ply
from .sog import read_sog
from .sog_writing import write_sog
from .splat_file import read_splat_file, write_splat_file
from .spz import read_spz, write_spz
from .spz_decoding import names_axes

SUFFIXES = (".ply", ".spz", ".splat", ".sog", ".ksplat", ".glb", ".gltf")
# splat files of other programs, with what to do about them
UNREADABLE = {
    ".lcc": "convert it to .ply with splat-transform",
    ".rad": "export the splat it was made of",
}


@dataclass(frozen=True)
class Format:
    """A format that splats are written in: how its files end, and what writes one from Gaussians and their origin.

    `sorts`: its files are smaller or more precise where neighbors in space follow each other (`writable.spatial_order`).
    `has_harmonics`: it holds colors that depend on the view. `fixed_point`: one range of positions holds for all Gaussians.
    """

    suffix: str
    write: Callable[[Gaussians, Path, Origin], Path]
    sorts: bool = False
    has_harmonics: bool = True
    fixed_point: bool = False


# by the names that Export 4D Scene gives them; each can be the format of a sequence
WRITTEN = {
    "ply": Format(".ply", lambda gaussians, path, origin: write_ply(gaussians, path, origin=origin)),
    "spz": Format(".spz", lambda gaussians, path, origin: write_spz(gaussians, path), fixed_point=True),
    "spz 4": Format(".spz", lambda gaussians, path, origin: write_spz(gaussians, path, 4), fixed_point=True),
    "sog": Format(".sog", lambda gaussians, path, origin: write_sog(gaussians, path), sorts=True),
    "compressed ply": Format(
        ".ply", lambda gaussians, path, origin: write_compressed_ply(gaussians, path), sorts=True
    ),
    "splat": Format(
        ".splat", lambda gaussians, path, origin: write_splat_file(gaussians, path), has_harmonics=False
    ),
    "glb": Format(".glb", lambda gaussians, path, origin: write_glb(gaussians, path)),
    "glb spz": Format(
        ".glb", lambda gaussians, path, origin: write_glb(gaussians, path, compresses=True), fixed_point=True
    ),
}


def splat_origin(path: Path) -> Origin:
    """What the positions of a splat file are relative to, as this pack's .ply notes it; zero for all others."""
    return ply_origin(path) if path.suffix.lower() == ".ply" else AT_ZERO


def axes_note(path: Path) -> str:
    """What `read_splat` assumes about the axes of a file; empty where the format or the file says them."""
    if path.suffix.lower() != ".spz" or names_axes(read_regular(path), path.name):
        return ""
    return (
        f"{printable(path.name)} does not say which way is up: it was read with y up, as Niantic specifies .spz. If the scene is "
        "upside down, set the up axis to y up."
    )


def read_splat(path: Path, as_stored: bool = False) -> Gaussians:
    """The Gaussians of a file of a format in SUFFIXES.

    Args:
        path: The file.
        as_stored: As in `read_ply`; the other formats have float32 positions, and .spz, .sog and glTF have finite values.

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
    if suffix in (".glb", ".gltf"):
        return read_gltf_splat(path)
    if suffix == ".splat":
        return usable(read_splat_file(path), path.name, as_stored)
    return read_ply(path, as_stored)
