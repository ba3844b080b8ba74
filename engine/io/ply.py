"""Gaussians of one frame as `.ply`, in the layout of 3D Gaussian Splatting (Kerbl et al. 2023).

float32 `x y z nx ny nz f_dc_0..2 f_rest_* opacity scale_0..2 rot_0..3`, pre-activation, normals zero, `f_rest`
channel-major (all red, all green, all blue), rotations wxyz. Writes binary little endian; also reads ASCII, big endian,
additional properties and other orders. Positions relative to an origin are noted in the header: `comment origin x y z`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.ply_header import header_bytes, read_header, read_vertices
from ..scene import Gaussians
from ..scene.cameras import AT_ZERO, Origin, origin_from
from ..scene.mending import mended
from .compressed_ply import read_compressed_ply

ORIGIN = "origin"
BINDING = "binding_0"  # GaussianAvatars: each Gaussian's triangle, as a float


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


def write_ply(
    gaussians: Gaussians, path: Path | str, binding: Tensor | None = None, origin: Origin = AT_ZERO
) -> Path:
    """Write the Gaussians of one frame with all spherical harmonics, atomically.

    Args:
        gaussians: N Gaussians.
        path: The .ply file; it is replaced if it exists.
        binding: [N] triangles of a mesh to which the values are relative, as GaussianAvatars stores them.
        origin: What the positions are relative to.

    Returns:
        The path.

    Raises:
        InputError: The file cannot be written.

    Example:
        >>> write_ply(scene.at(0.5), "frame.ply")
    """
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
    if binding is not None:
        names.append(BINDING)
        columns = torch.cat([columns, binding.detach().cpu().float()[:, None]], dim=1)
    comments = [] if origin == AT_ZERO else [" ".join([ORIGIN, *(repr(float(c)) for c in origin)])]
    header = header_bytes(count, [("float", name) for name in names], comments)
    with write_atomically(path) as partial:
        partial.write_bytes(header + columns.numpy().astype("<f4").tobytes())
    return path


def ply_origin(path: Path | str) -> Origin:
    """What the positions of a .ply are relative to, as `write_ply` notes it; zero where it does not say.

    Raises InputError where the file is not a .ply.
    """
    path = Path(path)
    header = read_header(path, path.name, starts_with_vertices=False)
    for words in header.comments:
        if words[:1] == (ORIGIN,) and len(words) == 4:
            try:
                return origin_from([float(word) for word in words[1:]])
            # a comment of another program
            except (ValueError, InputError):
                continue
    return AT_ZERO


def read_ply(path: Path | str, as_stored: bool = False) -> Gaussians:
    """Read a .ply of 3D Gaussian Splatting, or a compressed one (`compressed_ply`).

    Infinite opacities are read as opaque or transparent, and Gaussians with NaN are left out, as in `scene.mending`.

    Args:
        path: The .ply file.
        as_stored: Leave infinite and NaN values in, and positions in float64 where the file has them so, for a caller that
            mends and moves them itself.

    Returns:
        N Gaussians with the file's spherical harmonics degree.

    Raises:
        InputError: The file is missing, cut short, or does not contain Gaussians.
    """
    path = Path(path)
    header = read_header(path, path.name, starts_with_vertices=False)
    if header.elements[0].name == "chunk":
        return usable(read_compressed_ply(path), path.name, as_stored)
    vertices = read_vertices(path, path.name, header)
    if BINDING in (vertices.dtype.names or ()):
        raise InputError(
            "IO-052",
            f"{path.name} stores its Gaussians relative to the triangles of a head mesh ({BINDING}), so it is not a scene by "
            "itself. Import the avatar's folder (the one that contains point_cloud) together with its head model.",
        )
    return usable(_gaussians(vertices, path), path.name, as_stored)


def usable(stored: Gaussians, name: str, as_stored: bool) -> Gaussians:
    """Gaussians of the file `name` as they are, or mended. Raises InputError where nothing would be left."""
    made = mended([stored])[0][0]
    if len(made) == 0 < len(stored):
        raise InputError(
            "IO-023",
            f"{name}: all {len(stored):,} Gaussians were left out, because their numbers are NaN or infinite; export it again.",
        )
    return stored if as_stored else made.with_(means=made.means.float())


def read_bound_ply(path: Path | str) -> tuple[Gaussians, Tensor]:
    """Read the point_cloud.ply of an avatar.

    Args:
        path: The .ply file.

    Returns:
        N Gaussians relative to the triangles of a mesh, and each one's triangle ([N] long, not negative).

    Raises:
        InputError: As `read_ply`, or the Gaussians are not bound to triangles.
    """
    path = Path(path)
    vertices = read_vertices(path, path.name)
    if BINDING not in (vertices.dtype.names or ()):
        raise InputError(
            "IO-053",
            f"{path.name} has no property {BINDING}, so its Gaussians are not bound to a head. Import it as a .ply scene "
            "instead.",
        )
    stored = vertices[BINDING].astype(np.float64)
    if not bool(
        (np.isfinite(stored) & (stored >= 0) & (stored < 2**31) & (stored == np.round(stored))).all()
    ):
        raise InputError(
            "IO-054", f"{path.name}: {BINDING} contains values that are not triangles; export it again."
        )
    gaussians = _gaussians(vertices, path)
    gaussians = gaussians.with_(means=gaussians.means.float())
    mended_rows, note = mended([gaussians])
    # a Gaussian left out would no longer have its triangle
    if note:
        raise InputError("IO-065", f"{path.name} contains NaN or infinite values; export it again.")
    return mended_rows[0], torch.from_numpy(stored.astype(np.int64))


def _gaussians(vertices: NDArray[Any], path: Path) -> Gaussians:
    named = set(vertices.dtype.names or ())
    if missing := [n for n in ("x", "y", "z", "opacity", "scale_0", "rot_0", "f_dc_0") if n not in named]:
        raise InputError(
            "IO-020",
            f"{path.name} does not contain Gaussians: {', '.join(missing)} is missing. Choose a 3DGS .ply, not a point cloud or "
            "a mesh.",
        )
    rest = sum(name.startswith("f_rest_") for name in named)
    if rest not in (0, 9, 24, 45):
        raise InputError(
            "IO-021",
            f"{path.name} has {rest} f_rest properties, but an SH degree needs 0, 9, 24 or 45; export it again.",
        )

    def columns(*names: str, kind: type[Any] = np.float32) -> Tensor:
        if lost := [n for n in names if n not in named]:
            raise InputError("IO-022", f"{path.name}: the property {lost[0]} is missing; export it again.")
        return torch.from_numpy(np.stack([vertices[n].astype(kind) for n in names], axis=1))

    is_exact = any(vertices[axis].dtype.itemsize == 8 for axis in "xyz" if axis in named)
    dc = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    high = columns(*(f"f_rest_{i}" for i in range(rest))) if rest else torch.zeros(len(vertices), 0)
    return Gaussians(
        means=columns("x", "y", "z", kind=np.float64 if is_exact else np.float32),
        log_scales=columns("scale_0", "scale_1", "scale_2"),
        quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        logit_opacities=columns("opacity")[:, 0],
        sh=torch.cat([dc, high.reshape(len(vertices), 3, rest // 3).transpose(1, 2)], dim=1).contiguous(),
    )
