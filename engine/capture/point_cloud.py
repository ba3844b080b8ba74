"""Initial points in a PLY file: positions and colors, nothing else; never more memory than the file has bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.npyfile import read_numbers
from ..files.paths import relative_name, require_file
from ..files.ply_header import header_bytes, read_header, read_vertices
from ..io.ply import ply_origin

Array = NDArray[Any]
MOST = 20_000_000  # points
ROUNDING = 1e-4
AGAIN = "export it again"


def read_points(path: Path, name: str) -> tuple[Array, Array | None]:
    """Positions [P, 3] float64 and colors [P, 3] in 0..1 (or None) of a PLY's vertices. InputError naming `name`."""
    header = read_header(path, name)
    names = [p.name for p in header.vertices.properties]
    if not {"x", "y", "z"} <= set(names):
        raise InputError("CAP-074", f"{name} is damaged or is not a PLY file of points. Export it again.")
    if header.vertices.count > MOST:
        raise InputError(
            "CAP-075",
            f"{name} claims {header.vertices.count:,} points; at most {MOST:,} are supported. Reduce the "
            "point cloud.",
        )
    table = read_vertices(path, name, header)
    # a damaged file's NaNs are named below
    with np.errstate(invalid="ignore"):
        xyz = np.stack([table[c].astype(np.float64) for c in "xyz"], axis=1)
    colors = None
    for triple in (("red", "green", "blue"), ("r", "g", "b")):
        if all(c in names for c in triple):
            colors = _unit_colors([table[c] for c in triple], name)
    # of Gaussians that this pack exported
    xyz = xyz + np.array(ply_origin(path))
    if not np.isfinite(xyz).all():
        raise InputError(
            "CAP-076", f"{name} contains points with NaN or infinite coordinates. Export it again."
        )
    return xyz, colors


def _unit_colors(channels: list[Array], name: str) -> Array:
    """Colors [P, 3] in 0..1 of stored ones: floats in 0..1, or whole numbers in 0..255 or, with 16 bits, 0..65535.

    Raises InputError for any others: scaled by a guess, all points could be white.
    """
    # a damaged file's NaNs are named below
    with np.errstate(invalid="ignore"):
        stored = np.stack([channel.astype(np.float64) for channel in channels], axis=1)
    low, high = float(stored.min(initial=0)), float(stored.max(initial=0))
    is_float = channels[0].dtype.kind == "f"
    is_whole = not is_float or bool((stored == np.round(stored)).all())
    # floats may be a rounding error beyond
    if is_float and low >= -ROUNDING and high <= 1 + ROUNDING:
        return stored.clip(0, 1)
    if low >= 0 and is_whole and high <= 255:
        return stored / 255
    if low >= 0 and high <= 65535 and channels[0].dtype.itemsize == 2 and not is_float:
        return stored / 65535
    raise InputError(
        "CAP-264",
        f"{name} has point colors from {low:g} to {high:g}, which are neither 0 to 1 nor 0 to 255. Export it again with colors "
        "of 8 bits.",
    )


def write_points(path: Path, points: Tensor, colors: Tensor | None) -> Path:
    """Positions [P, 3] as float64 and colors [P, 3] in 0..1 (where given) in bytes, as `read_points` reads them."""
    fields = [(c, "<f8") for c in "xyz"] + [(c, "u1") for c in ("red", "green", "blue") if colors is not None]
    table = np.zeros(len(points), dtype=fields)
    for i, axis in enumerate("xyz"):
        table[axis] = points[:, i].double().numpy()
    for i, channel in enumerate(("red", "green", "blue") if colors is not None else ()):
        assert colors is not None
        table[channel] = (colors[:, i].double().clamp(0, 1) * 255).round().numpy()
    header = header_bytes(len(points), [("double" if t == "<f8" else "uchar", name) for name, t in fields])
    with write_atomically(path) as partial:
        partial.write_bytes(header + table.tobytes())
    return path


def optional_points(
    folder: Path, candidates: tuple[str, ...], warnings: list[str]
) -> tuple[Array | None, Array | None]:
    """The points of the first candidate that exists; a damaged file becomes a warning, for training can do without."""
    for candidate in candidates:
        path = folder / candidate
        if path.is_file():
            try:
                return read_points(require_file(path, folder, AGAIN), relative_name(path, folder))
            except InputError as error:
                warnings.append(f"{error.message} Training continues without initial points.")
                return None, None
    return None, None


def points_array(folder: Path, candidate: str, warnings: list[str]) -> Array | None:
    """Points [P, 3] of a .npy file, where it exists; nothing is unpickled, a damaged file becomes a warning."""
    path = folder / candidate
    if not path.is_file():
        return None
    try:
        values = read_numbers(require_file(path, folder, AGAIN), candidate)
    except InputError as error:
        warnings.append(f"{error.message} Training continues without initial points.")
        return None
    if values.ndim != 2 or values.shape[1] != 3:
        warnings.append(
            f"{candidate} does not contain points [P, 3]. Training continues without initial points."
        )
        return None
    return values[np.isfinite(values).all(axis=1)]
