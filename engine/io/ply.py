"""Gaussians of one moment as `.ply`, in the layout of 3D Gaussian Splatting (Kerbl et al. 2023).

float32 `x y z nx ny nz f_dc_0..2 f_rest_* opacity scale_0..2 rot_0..3`, pre-activation, normals zero, `f_rest`
channel-major (all red, all green, all blue), rotations wxyz. Binary little endian is written; ASCII and big endian,
other properties and other orders are read too.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.paths import printable
from ..scene import Gaussians

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "float64": "f8",
}  # fmt: skip
LONGEST_HEADER = 1 << 16


def property_names(bases: int) -> list[str]:
    rest = 3 * (bases - 1)
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def write_ply(gaussians: Gaussians, path: Path | str) -> Path:
    """Write one moment with all its spherical harmonics, whole or not at all."""
    path = Path(path)
    g = gaussians.map(lambda t: t.detach().cpu().float())
    count, bases = len(g), g.sh.shape[1]
    columns = torch.cat(
        [
            g.means,
            torch.zeros(count, 3),
            g.sh[:, 0],
            g.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (bases - 1)),
            g.logit_opacities[:, None],
            g.log_scales,
            g.quats,
        ],
        dim=1,
    )
    names = property_names(bases)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    with write_atomically(path) as partial:
        partial.write_bytes("\n".join(header).encode("ascii") + columns.numpy().astype("<f4").tobytes())
    return path


def read_ply(path: Path | str) -> Gaussians:
    """Gaussians of a 3DGS .ply. Raises InputError where the file is missing, cut short or holds no Gaussians."""
    path = Path(path)
    vertices = read_vertices(path)
    named = set(vertices.dtype.names or ())
    if missing := [n for n in ("x", "y", "z", "opacity", "scale_0", "rot_0", "f_dc_0") if n not in named]:
        raise InputError(
            f"{path.name} holds no Gaussians: {', '.join(missing)} is missing; is it a plain point cloud or a mesh?"
        )
    rest = sum(name.startswith("f_rest_") for name in named)
    if rest not in (0, 9, 24, 45):
        raise InputError(
            f"{path.name}: {rest} f_rest properties; 0, 9, 24 or 45 belong to a harmonic degree."
        )

    def columns(*names: str) -> Tensor:
        if lost := [n for n in names if n not in named]:
            raise InputError(f"{path.name}: the property {lost[0]} is missing.")
        return torch.from_numpy(np.stack([vertices[n].astype(np.float32) for n in names], axis=1))

    dc = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    high = columns(*(f"f_rest_{i}" for i in range(rest))) if rest else torch.zeros(len(vertices), 0)
    result = Gaussians(
        means=columns("x", "y", "z"),
        log_scales=columns("scale_0", "scale_1", "scale_2"),
        quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        logit_opacities=columns("opacity")[:, 0],
        sh=torch.cat([dc, high.reshape(len(vertices), 3, rest // 3).transpose(1, 2)], dim=1).contiguous(),
    )
    for name, tensor in result.tensors().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path.name}: {name} holds NaN or infinite numbers.")
    return result


def read_vertices(path: Path) -> np.ndarray:
    """The vertex element of a .ply as a structured array. Raises InputError; never takes the memory that a header claims."""
    if not path.is_file():
        raise InputError(f"There is no file {path.name}; check the path.")
    data = path.read_bytes()
    end = data.find(b"end_header", 0, LONGEST_HEADER)
    if not data.startswith(b"ply") or end < 0:
        raise InputError(f"{path.name} is no .ply file, or its header is cut short.")
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()]
    body = data[data.find(b"\n", end) + 1 :]
    form, count, fields, inside = "", -1, [], False
    for words in lines:
        if words[:1] == ["format"] and len(words) > 1:
            form = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            if inside or (count < 0 and words[1] != "vertex"):
                if not inside:
                    raise InputError(
                        f"{path.name}: the element '{printable(words[1])[:80]}' stands before the vertices; save it again."
                    )
                break
            inside, count = True, int(words[2]) if re.fullmatch(r"[0-9]{1,12}", words[2]) else -1
        elif words[:1] == ["property"] and inside:
            if len(words) != 3 or words[1] not in TYPES or any(words[2] == n for n, _ in fields):
                raise InputError(
                    f"{path.name}: the property line '{printable(' '.join(words))[:80]}' cannot be read."
                )
            fields.append((words[2], TYPES[words[1]]))
    if count < 0 or not fields:
        raise InputError(f"{path.name}: the header names no vertices.")
    if form == "ascii":
        rows = body.split(b"\n", count)[:count]
        if len(rows) < count or (count and len(rows[-1].split()) < len(fields)):
            raise InputError(
                f"{path.name} claims {count} vertices and holds fewer; it is cut short: copy or export it again."
            )
        try:
            table = np.array([row.split()[: len(fields)] for row in rows], dtype=np.float64)
        except ValueError as error:
            raise InputError(f"{path.name}: a vertex line is no list of numbers.") from error
        result = np.zeros(count, dtype=[(n, t) for n, t in fields])
        for i, (name, _) in enumerate(fields):
            result[name] = table[:, i]
        return result
    if form not in ("binary_little_endian", "binary_big_endian"):
        raise InputError(f"{path.name}: the format '{printable(form)[:80]}' is unknown.")
    order = "<" if form == "binary_little_endian" else ">"
    kind = np.dtype([(n, order + t) for n, t in fields])
    if len(body) < count * kind.itemsize:
        raise InputError(
            f"{path.name} claims {count} vertices and holds {len(body) // kind.itemsize}; it is cut short: "
            "copy or export it again."
        )
    return np.frombuffer(body, dtype=kind, count=count) if count else np.zeros(0, dtype=kind)
