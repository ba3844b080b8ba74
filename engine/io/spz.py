"""Gaussians of one frame as `.spz`, the compressed format of Niantic Labs: reads versions 1 to 4, writes 2 to 4.

A gzip stream of a 16-byte header and one block per attribute: positions (24-bit fixed point), opacities, colors, log
scales, rotations, spherical harmonics (a byte each; version 3 packs a rotation into 32 bits). Version 4 has the same
blocks in another container (`spz_streams`). Rounding errors, measured by the tests: positions 2^-fraction_bits / 2, log
scales 1/32, opacities 1/510, SH 1/256 within [-1, 1].

The file's axes are x right, y up, z back (OpenGL), while a 3DGS `.ply` and this pack have y down, z forward. Reading and
writing rotate positions, rotations and harmonics by 180° about x. A file that names other axes is read with them (`spz_axes`).
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.paths import read_regular
from ..scene import Gaussians, rotations
from .spz_decoding import COLOR_SCALE, HEADER, MAGIC, ROWS, decode_spz, turned
from .spz_streams import packed_streams
from .writable import writable

# range of a byte
LOG_SCALES = (-10.0, 5.9375)
# of the 23 bits of a position 17 are left, where one Gaussian is this many times further than nearly all
FAR = 64.0
Bytes = NDArray[np.uint8]


def write_spz(gaussians: Gaussians, path: Path | str, version: int = 3, sh_bits: int = 8) -> Path:
    """Write the Gaussians of one frame, atomically.

    Args:
        gaussians: N Gaussians.
        path: The .spz file; it is replaced if it exists.
        version: 2, 3 or 4; from 3 on rotations are stored more precisely, 4 is compressed with Zstandard.
        sh_bits: As in `encode_spz`.

    Returns:
        The path.

    Raises:
        InputError: As `encode_spz`, or the file cannot be written.

    Example:
        >>> write_spz(scene.at(0.5), "frame.spz")
    """
    path = Path(path)
    data = encode_spz(gaussians, path.name, version, sh_bits)
    with write_atomically(path) as partial:
        partial.write_bytes(data)
    return path


def encode_spz(gaussians: Gaussians, name: str, version: int = 3, sh_bits: int = 8) -> bytes:
    """Encode Gaussians as the bytes of an .spz file.

    Args:
        gaussians: N Gaussians.
        name: Name of the file in errors.
        version: 2, 3 or 4; from 3 on rotations are stored more precisely, 4 is compressed with Zstandard.
        sh_bits: 1 to 8 bits per spherical harmonics coefficient above degree 0. Fewer make a smaller file; Niantic's own
            tools use 5 for degree 1 and 4 above.

    Returns:
        The file's bytes.

    Raises:
        InputError: A value is not finite, a position exceeds the format's range, or version 4 lacks the package zstandard.
    """
    if version not in (2, 3, 4) or not 1 <= sh_bits <= 8:
        raise InputError(
            "IO-032",
            f"{name}: .spz version {version} with {sh_bits} SH bits cannot be written; use version 2 to 4, and 1 to 8 bits.",
        )
    g = writable(gaussians, name)
    largest = float(g.means.abs().max()) if len(g) else 0.0
    bits = next((b for b in range(20, -1, -1) if round(largest * 2**b) < 2**23), None)
    if bits is None:
        raise InputError(
            "IO-034",
            f"{name} was not written: a Gaussian is {largest:.3g} units from the origin, beyond the .spz limit of 8.3e6. Export "
            "a .ply instead.",
        )
    blocks: list[list[bytes]] = [[] for _ in range(6)]
    for start in range(0, len(g), ROWS):
        rows = slice(start, start + ROWS)
        some = turned(g.map(lambda t, rows=rows: t[rows].double()))
        for block, part in zip(blocks, _blocks(some, bits, version, sh_bits), strict=True):
            block.append(part.tobytes())
    if version == 4:
        return packed_streams([b"".join(block) for block in blocks], len(g), g.sh_degree, bits)
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = [packer.compress(HEADER.pack(MAGIC, version, len(g), g.sh_degree, bits, 0, 0))]
    packed += [packer.compress(part) for block in blocks for part in block]
    return b"".join([*packed, packer.flush()])


def _blocks(g: Gaussians, bits: int, version: int, sh_bits: int) -> list[Bytes]:
    """The attributes of some Gaussians, in the file's axes and order."""
    return [
        _fixed_point(g.means * 2.0**bits),
        _byte(g.logit_opacities.sigmoid() * 255),
        _byte(g.sh[:, 0] * (COLOR_SCALE * 255) + 127.5),
        _byte((g.log_scales + 10) * 16),
        _smallest_three(g.quats) if version >= 3 else _three_bytes(g.quats),
        _harmonics(g.sh[:, 1:], sh_bits),
    ]


def far_out(means: Tensor) -> Tensor:
    """Gaussians for whose sake the format would round all positions: a few, very far from all others.

    Args:
        means: [N, 3].

    Returns:
        [N] bool: further from the origin than FAR times the 99th percentile.
    """
    away = means.detach().abs().amax(-1).double()
    if not len(away):
        return torch.zeros(0, dtype=torch.bool)
    # kthvalue, since quantile has a limit of 16 million
    usual = away.kthvalue(max(1, round(0.99 * len(away)))).values
    return away > FAR * usual


def read_spz(path: Path | str) -> Gaussians:
    """Read an .spz file of version 1 to 4. No more is unpacked than the header's count requires.

    Args:
        path: The .spz file.

    Returns:
        N Gaussians.

    Raises:
        InputError: The file is missing, not an .spz, of an unknown version, cut short, or has a false header.
    """
    path = Path(path)
    try:
        packed = read_regular(path)
    except OSError as error:
        raise InputError(
            "IO-035", f"{path.name} cannot be read: {error.strerror}; check the path."
        ) from error
    return decode_spz(packed, path.name)


def _byte(values: Tensor) -> Bytes:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()


def _fixed_point(values: Tensor) -> Bytes:
    """[N, 3] whole numbers as [N, 9] bytes, 24 bits each, little endian, two's complement."""
    whole = values.round().clamp(-(2**23), 2**23 - 1).to(torch.int32).numpy().astype("<i4")
    return np.ascontiguousarray(whole).view(np.uint8).reshape(-1, 3, 4)[..., :3]


def _harmonics(sh: Tensor, bits: int) -> Bytes:
    step = 1 << (8 - bits)
    return _byte(((sh * 128 + 128) / step).round() * step)


def _xyzw(quats: Tensor) -> Tensor:
    return rotations.normalise(quats)[:, [1, 2, 3, 0]]


def _three_bytes(quats: Tensor) -> Bytes:
    """Version 2: x, y, z of the unit quaternion with w ≥ 0."""
    q = _xyzw(quats)
    q = torch.where(q[:, 3:] < 0, -q, q)
    return _byte(q[:, :3] * 127.5 + 127.5)


def _smallest_three(quats: Tensor) -> Bytes:
    """Version 3, 32 bits: the index of the largest of x, y, z, w on top, then the others in order, sign and 9 bits each."""
    q = _xyzw(quats).numpy()
    largest = np.abs(q).argmax(axis=1)
    q = q * np.where(np.take_along_axis(q, largest[:, None], 1) < 0, -1.0, 1.0)
    packed = largest.astype(np.uint32)
    for axis in range(4):
        magnitude = np.minimum(np.rint(np.abs(q[:, axis]) * (511 * 2**0.5)), 511).astype(np.uint32)
        code = (q[:, axis] < 0).astype(np.uint32) << 9 | magnitude
        packed = np.where(largest == axis, packed, packed << np.uint32(10) | code)
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)
