"""Gaussians of one frame as PlayCanvas' compressed `.ply`, which SuperSplat and splat-transform write: reading
(`compressed_ply_writing` writes it).

Vertices are packed into 16 bytes each: position (11, 10, 11 bits), rotation (2 bits for the largest part, 10 for each other
one), log scale (11, 10, 11) and color with opacity (8 each). Positions, scales and, in newer files, colors are parts of a
range that 256 vertices have in common: the element `chunk`. The element `sh` holds the higher harmonics, a byte each.

Source: https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/compressed-ply/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files.ply_header import read_elements
from ..scene import Gaussians, harmonics, rotations

# vertices that share a chunk
SHARED = 256
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
# range of a byte of the higher harmonics
SH_RANGE = 8.0
Table = NDArray[Any]
Numbers = NDArray[np.float32]


def read_compressed_ply(path: Path) -> Gaussians:
    """Read a compressed .ply.

    Args:
        path: The file.

    Returns:
        N Gaussians.

    Raises:
        InputError: The file is damaged, cut short, or lacks a part.
    """
    elements = read_elements(path, path.name)
    vertices, chunks = elements.get("vertex"), elements.get("chunk")
    if vertices is None or chunks is None or any(name not in (vertices.dtype.names or ()) for name in PACKED):
        raise InputError(
            "IO-080",
            f"{path.name} lacks parts of a compressed .ply (chunks, packed vertices); export it again.",
        )
    if len(chunks) * SHARED < len(vertices):
        raise InputError(
            "IO-081",
            f"{path.name} has {len(chunks)} chunks for {len(vertices):,} Gaussians, and each holds {SHARED}; it is damaged. "
            "Export it again.",
        )
    own = np.arange(len(vertices)) // SHARED
    position, rotation, scale, color = (vertices[name].astype(np.uint32) for name in PACKED)
    rgba = np.stack([(color >> shift & 255) for shift in (24, 16, 8, 0)], axis=1) / np.float32(255)
    rgb = rgba[:, :3].astype(np.float32)
    if "min_r" in (chunks.dtype.names or ()):
        rgb = _between(chunks, own, rgb, [f"min_{c}" for c in "rgb"], [f"max_{c}" for c in "rgb"], path.name)
    # half a step from 0 and 1, so that the logit stays finite
    opacity = torch.from_numpy(rgba[:, 3].astype(np.float32)).clamp(1 / 1020, 1 - 1 / 1020)
    dc = (torch.from_numpy(rgb) - 0.5) / harmonics.C0
    return Gaussians(
        means=torch.from_numpy(_ranged(chunks, own, position, "", path.name)),
        log_scales=torch.from_numpy(_ranged(chunks, own, scale, "scale_", path.name)),
        quats=rotations.normalise(torch.from_numpy(_smallest_three(rotation))),
        logit_opacities=opacity.logit(),
        sh=torch.cat([dc[:, None], _higher(elements.get("sh"), len(vertices), path.name)], dim=1),
    )


def _ranged(chunks: Table, own: NDArray[Any], packed: NDArray[np.uint32], kind: str, name: str) -> Numbers:
    """[N, 3] of 11, 10 and 11 bits, inside the ranges of the vertices' chunks."""
    parts = np.stack([(packed >> 21) / 2047, (packed >> 11 & 1023) / 1023, (packed & 2047) / 2047], axis=1)
    low, high = ([f"{bound}_{kind}{axis}" for axis in "xyz"] for bound in ("min", "max"))
    return _between(chunks, own, parts.astype(np.float32), low, high, name)


def _between(
    chunks: Table, own: NDArray[Any], parts: Numbers, low: list[str], high: list[str], name: str
) -> Numbers:
    """Parts [N, 3] in 0..1 of the ranges between two sets of the chunks' columns."""
    if lost := [column for column in (*low, *high) if column not in (chunks.dtype.names or ())]:
        raise InputError("IO-082", f"{name}: the chunks lack {lost[0]}; export it again.")
    first, last = (
        np.stack([chunks[c].astype(np.float32) for c in names], axis=1)[own] for names in (low, high)
    )
    return (first + parts * (last - first)).astype(np.float32)


def _smallest_three(packed: NDArray[np.uint32]) -> Numbers:
    """Rotations wxyz [N, 4]: which part is the largest, and the other three in order, in -√½..√½."""
    largest = (packed >> 30).astype(np.int64)
    others = np.stack([(packed >> shift & 1023) for shift in (20, 10, 0)], axis=1).astype(np.float32)
    others = (others / 1023 - 0.5) * np.float32(2**0.5)
    result = np.zeros((len(packed), 4), dtype=np.float32)
    places = np.stack([np.delete(np.arange(4), i) for i in range(4)])[largest]
    np.put_along_axis(result, places, others, axis=1)
    rest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(axis=1)))
    np.put_along_axis(result, largest[:, None], rest[:, None], axis=1)
    return result


def _higher(table: Table | None, count: int, name: str) -> Tensor:
    """Harmonics above degree 0 [N, K - 1, 3], from bytes that are channel-major."""
    if table is None:
        return torch.zeros(count, 0, 3)
    names = [f"f_rest_{i}" for i in range(len(table.dtype.names or ()))]
    columns = len(names)
    if columns not in (9, 24, 45) or len(table) != count or {*names} != {*(table.dtype.names or ())}:
        raise InputError(
            "IO-083",
            f"{name} has {columns} harmonics for {len(table):,} of {count:,} Gaussians, but an SH degree needs 9, 24 or 45 "
            "for all; export it again.",
        )
    stored = np.stack([table[name] for name in names], axis=1).astype(np.float32)
    # the ends of the range are stored exactly, the bytes between them by the middles of their steps
    parts = np.where(stored == 0, 0.0, np.where(stored == 255, 1.0, (stored + 0.5) / 256))
    values = torch.from_numpy(((parts - 0.5) * SH_RANGE).astype(np.float32))
    return values.view(count, 3, columns // 3).transpose(1, 2).contiguous()
