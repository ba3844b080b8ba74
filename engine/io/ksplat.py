"""Gaussians of one frame as `.ksplat`, the format of mkkellogg's GaussianSplats3D; read only.

A header of 4096 bytes, one of 1024 bytes for each section, then the sections: sizes of the last buckets, centers of all
buckets, and the Gaussians. At compression 0 all numbers are float32; at 1 and 2 positions are 16 bits around their bucket's
center, scales and rotations half floats, harmonics half floats or, at 2, bytes. Colors and opacities are bytes.

Source: https://github.com/mkkellogg/GaussianSplats3D (layout of SplatBuffer)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import backends
from ..errors import InputError
from ..files.paths import printable, read_regular
from ..scene import Gaussians, harmonics, rotations

HEADER_BYTES, SECTION_BYTES = 4096, 1024
# version, sections (most, used), Gaussians (most, used), compression, center, range of harmonics
HEADER = struct.Struct("<BBxxIIIIHxx3fff")
# Gaussians (used, most), a bucket's size, buckets, a block's size, bytes of a center, steps on half a block, bytes of the
# buckets, full and other buckets, SH degree
SECTION = struct.Struct("<IIIIfHxxIIIIH")
# range of a byte of the higher harmonics, and steps on half a block, where the file names none
SH_RANGE, STEPS = (-1.5, 1.5), 32767
Table = NDArray[Any]


def read_ksplat(path: Path | str) -> Gaussians:
    """Read a .ksplat file.

    Args:
        path: The file.

    Returns:
        N Gaussians of the highest SH degree of its sections.

    Raises:
        InputError: The file is missing, of another version, cut short, or its sizes contradict each other.
    """
    path = Path(path)
    name = printable(path.name)
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError("IO-120", f"{name} cannot be read: {error.strerror}; check the path.") from error
    if len(data) < HEADER_BYTES:
        raise _damaged(name, f"has {len(data):,} bytes, less than its header")
    major, minor, most, used, _, count, level, *_, low, high = HEADER.unpack_from(data)
    if (major, minor) != (0, 1) or level > 2:
        raise InputError(
            "IO-121",
            f"{name} is a .ksplat of version {major}.{minor} with compression {level}, but version 0.1 with 0 to 2 is supported; "
            "convert it to .splat or .ply.",
        )
    place = HEADER_BYTES + most * SECTION_BYTES
    if used > most or place > len(data):
        raise _damaged(name, f"claims {used:,} of {most:,} sections in {len(data):,} bytes")
    sections = [
        _Section(level, *SECTION.unpack_from(data, HEADER_BYTES + i * SECTION_BYTES)) for i in range(used)
    ]
    if sum(section.count for section in sections) != count or count == 0:
        raise _damaged(name, f"claims {count:,} Gaussians, but its sections hold others")
    _check_memory(sections, name)
    parts: list[Gaussians] = []
    for section in sections:
        if section.degree > harmonics.MAX_DEGREE or section.count > section.most:
            raise _damaged(
                name, f"has a section of {section.count:,} Gaussians and SH degree {section.degree}"
            )
        end = place + section.size
        if end > len(data):
            raise _damaged(name, f"is cut short: {len(data):,} of at least {end:,} bytes are present")
        if section.count:
            parts.append(_gaussians(section, data, place, (low, high) if low < high else SH_RANGE, name))
        place = end
    return Gaussians.concatenate(parts)


@dataclass(frozen=True)
class _Section:
    """What a section's header says."""

    level: int
    count: int
    most: int
    bucket: int
    buckets: int
    block: float
    center: int
    steps: int
    _size: int
    full: int
    partial: int
    degree: int

    @property
    def row(self) -> np.dtype[Any]:
        """A Gaussian's bytes."""
        number, position = ("<f4", "<f4") if self.level == 0 else ("<f2", "<u2")
        parts: list[Any] = [
            ("mean", position, 3),
            ("scale", number, 3),
            ("quat", number, 4),
            ("rgba", "u1", 4),
        ]
        high = 3 * (harmonics.bases(self.degree) - 1)
        if high:
            parts.append(("sh", ("<f4", "<f2", "u1")[self.level], high))
        return np.dtype(parts)

    @property
    def size(self) -> int:
        """All of the section's bytes."""
        return 4 * self.partial + self.center * self.buckets + self.row.itemsize * self.most


def _check_memory(sections: list[_Section], name: str) -> None:
    numbers = sum(s.count * (11 + 3 * harmonics.bases(min(s.degree, harmonics.MAX_DEGREE))) for s in sections)
    shortage = backends.shortage(8 * numbers)
    if shortage:
        raise InputError(
            "IO-123", f"{name} needs {shortage}. Close other programs, or export fewer Gaussians."
        )


def _gaussians(
    section: _Section, data: bytes, place: int, sh_range: tuple[float, float], name: str
) -> Gaussians:
    rows_at = place + 4 * section.partial + section.center * section.buckets
    rows = np.frombuffer(data, section.row, section.count, rows_at)
    scales = torch.from_numpy(rows["scale"].astype(np.float32))
    quats = torch.from_numpy(rows["quat"].astype(np.float32))
    quats[quats.norm(dim=1) == 0, 0] = 1
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32) / 255)
    return Gaussians(
        means=torch.from_numpy(_means(section, rows, data, place, name)),
        # a half float rounds the smallest ones to 0
        log_scales=scales.clamp(min=1e-12).log(),
        quats=rotations.normalise(quats),
        logit_opacities=rgba[:, 3].clamp(1 / 1020, 1 - 1 / 1020).logit(),
        sh=torch.cat(
            [
                ((rgba[:, :3] - 0.5) / harmonics.C0)[:, None],
                torch.from_numpy(_higher(section, rows, sh_range)),
            ],
            dim=1,
        ),
    )


def _means(section: _Section, rows: Table, data: bytes, place: int, name: str) -> NDArray[np.float32]:
    if section.level == 0:
        return rows["mean"].astype(np.float32)
    sizes = np.frombuffer(data, "<u4", section.partial, place).astype(np.int64)
    if section.center != 12 or section.full + section.partial > section.buckets:
        raise _damaged(name, "has buckets whose sizes contradict each other")
    of_full = np.arange(min(section.full * section.bucket, section.count)) // max(section.bucket, 1)
    # a bucket may claim more than there are
    sizes = sizes[: int(np.searchsorted(sizes.cumsum(), section.count)) + 1].clip(max=section.count)
    others = np.repeat(np.arange(len(sizes)), sizes) + section.full
    own = np.concatenate([of_full, others])[: section.count]
    if len(own) < section.count:
        raise _damaged(name, f"has buckets for {len(own):,} of {section.count:,} Gaussians")
    centers = np.frombuffer(data, "<f4", 3 * section.buckets, place + 4 * section.partial).reshape(-1, 3)
    steps = section.steps or STEPS
    return (
        (rows["mean"].astype(np.float32) - steps) * np.float32(section.block / 2 / steps) + centers[own]
    ).astype(np.float32)


def _higher(section: _Section, rows: Table, sh_range: tuple[float, float]) -> NDArray[np.float32]:
    """Harmonics above degree 0 [N, K - 1, 3]; a degree's red ones precede its green and blue ones."""
    if section.degree == 0:
        return np.zeros((section.count, 0, 3), np.float32)
    stored = rows["sh"].astype(np.float32)
    if section.level == 2:
        stored = sh_range[0] + stored / 255 * (sh_range[1] - sh_range[0])
    parts: list[Table] = []
    for degree in range(1, section.degree + 1):
        first, own = 3 * (harmonics.bases(degree - 1) - 1), 2 * degree + 1
        block = stored[:, first : first + 3 * own].reshape(section.count, 3, own)
        parts.append(block.transpose(0, 2, 1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _damaged(name: str, what: str) -> InputError:
    return InputError("IO-122", f"{name} {what}; copy or export it again.")
