"""Starting points in a PLY file: positions and colours, nothing else; never more memory than the file has bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.npyfile import read_numbers
from ..files.paths import printable, relative_name

Array = NDArray[Any]
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
MOST = 20_000_000  # points


def read_points(path: Path, name: str) -> tuple[Array, Array | None]:
    """Positions [P, 3] float64 and colours [P, 3] in 0..1 (or None) of a PLY's vertices. InputError naming `name`."""
    broken = InputError(f"{name} is damaged or not a PLY file of points; export it again.")
    try:
        with open(path, "rb") as file:
            header: list[str] = []
            while not header or header[-1] != "end_header":
                line = file.readline(1024)
                if not line or len(header) > 200:
                    raise broken
                header.append(line.decode("ascii", "replace").strip())
            if header[0] != "ply":
                raise broken
            count, fields, kind = _layout(header, broken)
            if count > MOST:
                raise InputError(f"{name} claims {count:,} points; at most {MOST:,} are read.")
            dtype = np.dtype([(n, ("<" if kind != "binary_big_endian" else ">") + t) for n, t in fields])
            if kind == "ascii":
                text = file.read(count * len(fields) * 32).decode("ascii", "replace").splitlines()[:count]
                table = np.array(
                    [tuple(float(v) for v in row.split()[: len(fields)]) for row in text], dtype=dtype
                )
            else:
                raw = file.read(count * dtype.itemsize)
                table = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype=dtype)
    except (OSError, ValueError, TypeError) as error:
        raise error if isinstance(error, InputError) else broken from error
    if len(table) != count:
        raise InputError(f"{name} is cut short: {len(table)} of {count} points are there; export it again.")
    with np.errstate(invalid="ignore"):  # a damaged file's NaNs are named below
        xyz = np.stack([table[c].astype(np.float64) for c in "xyz"], axis=1)
    names = [n for n, _ in fields]
    colors = None
    for triple in (("red", "green", "blue"), ("r", "g", "b")):
        if all(c in names for c in triple):
            colors = np.stack([table[c].astype(np.float64) for c in triple], axis=1)
            colors = colors / 255.0 if table[triple[0]].dtype.kind in "iu" else colors
    if not np.isfinite(xyz).all():
        raise InputError(f"{name} holds points with NaN or non-finite coordinates; export it again.")
    return xyz, None if colors is None else colors.clip(0, 1)


def write_points(path: Path, points: Tensor, colors: Tensor | None) -> Path:
    """Positions [P, 3] as float64 and colours [P, 3] in 0..1 (where given) in bytes, as `read_points` reads them."""
    fields = [(c, "<f8") for c in "xyz"] + [(c, "u1") for c in ("red", "green", "blue") if colors is not None]
    table = np.zeros(len(points), dtype=fields)
    for i, axis in enumerate("xyz"):
        table[axis] = points[:, i].double().numpy()
    for i, channel in enumerate(("red", "green", "blue") if colors is not None else ()):
        assert colors is not None
        table[channel] = (colors[:, i].double().clamp(0, 1) * 255).round().numpy()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {'double' if t == '<f8' else 'uchar'} {name}" for name, t in fields] + [
        "end_header",
        "",
    ]
    with write_atomically(path) as partial:
        partial.write_bytes("\n".join(header).encode("ascii") + table.tobytes())
    return path


def optional_points(
    folder: Path, candidates: tuple[str, ...], warnings: list[str]
) -> tuple[Array | None, Array | None]:
    """The points of the first candidate that exists; a damaged file becomes a warning, for training can do without."""
    for candidate in candidates:
        path = folder / candidate
        if path.is_file():
            try:
                return read_points(path, relative_name(path, folder))
            except InputError as error:
                warnings.append(f"{error} Training goes on without starting points.")
                return None, None
    return None, None


def _layout(header: list[str], broken: InputError) -> tuple[int, list[tuple[str, str]], str]:
    """(count, fields, format) of the vertex element, which must come first."""
    count, kind, element = -1, "", ""
    fields: list[tuple[str, str]] = []
    for line in header:
        words = line.split()
        if line.startswith("format ") and len(words) == 3:
            kind = words[1]
        elif line.startswith("element ") and len(words) == 3:
            if count >= 0 and element == "vertex" and words[1] != "vertex":
                element = words[1]
                continue
            if count < 0 and words[1] != "vertex":
                raise broken
            element, count = words[1], int(words[2])
        elif line.startswith("property ") and element == "vertex":
            if len(words) != 3 or words[1] not in TYPES or printable(words[2]) in [n for n, _ in fields]:
                raise broken
            fields.append((words[2], TYPES[words[1]]))
    if count < 0 or kind not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise broken
    if not {"x", "y", "z"} <= {n for n, _ in fields}:
        raise broken
    return count, fields, kind


def points_array(folder: Path, candidate: str, warnings: list[str]) -> Array | None:
    """Points [P, 3] of a .npy file, where it exists; nothing is unpickled, a damaged file becomes a warning."""
    path = folder / candidate
    if not path.is_file():
        return None
    try:
        values = read_numbers(path, candidate)
    except InputError as error:
        warnings.append(f"{error} Training goes on without starting points.")
        return None
    if values.ndim != 2 or values.shape[1] != 3:
        warnings.append(f"{candidate} does not hold points [P, 3]. Training goes on without starting points.")
        return None
    return values[np.isfinite(values).all(axis=1)]
