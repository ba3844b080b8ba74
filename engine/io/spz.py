"""Gaussians of one frame as `.spz`, the compressed format of Niantic Labs: reads versions 1 to 4, writes 2 or 3.

A gzip stream of a 16-byte header and one block per attribute: positions (24-bit fixed point), opacities, colors, log
scales, rotations, spherical harmonics (a byte each; version 3 packs a rotation into 32 bits). Version 4 has the same
blocks in another container (`spz_streams`). Rounding errors, measured by the tests: positions 2^-fraction_bits / 2, log
scales 1/32, opacities 1/510, SH 1/256 within [-1, 1].

The file's axes are x right, y up, z back (OpenGL), while a 3DGS `.ply` and this pack have y down, z forward. Reading and
writing rotate positions, rotations and harmonics by 180° about x.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.paths import read_regular
from ..scene import Gaussians, harmonics, rotations
from ..scene.mending import mended
from .spz_streams import HEADER as V4_HEADER
from .spz_streams import unpacked_streams

MAGIC = 0x5053474E
# magic, version, count, SH degree, fraction bits, flags, reserved
HEADER = struct.Struct("<IIIBBBB")
# of an SH DC coefficient; leaves room for colors outside 0..1
COLOR_SCALE = 0.15
# range of a byte
LOG_SCALES = (-10.0, 5.9375)
# Gaussians; 4 GB in memory
MOST = 50_000_000
# of the 23 bits of a position 17 are left, where one Gaussian is this many times further than nearly all
FAR = 64.0
Bytes = NDArray[np.uint8]


def write_spz(gaussians: Gaussians, path: Path | str, version: int = 3, sh_bits: int = 8) -> Path:
    """Write the Gaussians of one frame, atomically.

    Args:
        gaussians: N Gaussians.
        path: The .spz file; it is replaced if it exists.
        version: 2 or 3; 3 stores rotations more precisely.
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
        version: 2 or 3; 3 stores rotations more precisely.
        sh_bits: 1 to 8 bits per spherical harmonics coefficient above degree 0. Fewer make a smaller file; Niantic's own
            tools use 5 for degree 1 and 4 above.

    Returns:
        The file's bytes.

    Raises:
        InputError: A value is not finite, or a position exceeds the format's range.
    """
    if version not in (2, 3) or not 1 <= sh_bits <= 8:
        raise InputError(
            "IO-032",
            f"{name}: .spz version {version} with {sh_bits} SH bits cannot be written; use version 2 or 3, and 1 to 8 bits.",
        )
    g = gaussians.map(lambda t: t.detach().cpu().double())
    for field, tensor in g.tensors().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                "IO-033",
                f"{name} was not written: {field} contains NaN or infinite values. Check the step that created the scene.",
            )
    g = _turned(g)
    largest = float(g.means.abs().max()) if len(g) else 0.0
    bits = next((b for b in range(20, -1, -1) if round(largest * 2**b) < 2**23), None)
    if bits is None:
        raise InputError(
            "IO-034",
            f"{name} was not written: a Gaussian is {largest:.3g} units from the origin, beyond the .spz limit of 8.3e6. Export "
            "a .ply instead.",
        )
    blocks = [
        _fixed_point(g.means * 2.0**bits),
        _byte(g.logit_opacities.sigmoid() * 255),
        _byte(g.sh[:, 0] * (COLOR_SCALE * 255) + 127.5),
        _byte((g.log_scales + 10) * 16),
        _smallest_three(g.quats) if version == 3 else _three_bytes(g.quats),
        _harmonics(g.sh[:, 1:], sh_bits),
    ]
    header = HEADER.pack(MAGIC, version, len(g), g.sh_degree, bits, 0, 0)
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(header + b"".join(block.tobytes() for block in blocks)) + packer.flush()


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


def decode_spz(packed: bytes, name: str) -> Gaussians:
    """Decode the bytes of an .spz file; `name` identifies it in errors. Raises InputError as `read_spz`."""
    if packed[:4] == struct.pack("<I", MAGIC):
        header, body = _streams(packed, name)
        return _mended(_unpack(header, body), name)
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        header = _parse_header(unpacker.decompress(packed, HEADER.size), name)
        wanted = header.count * sum(header.widths)
        # one byte more than needed: enough to notice excess data, and too little for a decompression bomb
        body = unpacker.decompress(unpacker.unconsumed_tail, wanted + 1)
    except zlib.error as error:
        raise InputError(
            "IO-041", f"{name} is not an .spz file, or it is damaged; copy or export it again."
        ) from error
    if len(body) < wanted:
        raise InputError(
            "IO-042",
            f"{name} claims {header.count:,} Gaussians but contains {len(body):,} of {wanted:,} bytes; copy or export it again.",
        )
    return _mended(_unpack(header, body), name)


def _mended(stored: Gaussians, name: str) -> Gaussians:
    """Turned to the pack's axes, without Gaussians at NaN or infinity, which the half floats of version 1 can hold."""
    made = mended([_turned(stored)])[0][0]
    if len(made) == 0 < len(stored):
        raise InputError(
            "IO-043",
            f"{name}: all {len(stored):,} Gaussians were left out, because their positions are NaN or infinite; export it again.",
        )
    return made


def _streams(packed: bytes, name: str) -> tuple[_Header, bytes]:
    """Header and blocks of version 4."""
    if len(packed) < V4_HEADER.size:
        raise _cut_short(name)
    _, version, count, degree, bits, *_ = V4_HEADER.unpack_from(packed)
    if version != 4:
        raise InputError("IO-036", f"{name} is an .spz of version {version}; save it as version 3 or 4.")
    header = _checked(version, count, degree, bits, name)
    return header, unpacked_streams(packed, [header.count * width for width in header.widths], name)


def _cut_short(name: str) -> InputError:
    return InputError("IO-037", f"{name} is cut short; copy or export it again.")


@dataclass(frozen=True)
class _Header:
    """The 16 bytes at the beginning."""

    version: int
    count: int
    degree: int
    bits: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes of one Gaussian in each block: position, opacity, color, scale, rotation, higher harmonics."""
        high = 3 * (harmonics.bases(self.degree) - 1)
        return 6 if self.version == 1 else 9, 1, 3, 3, 4 if self.version >= 3 else 3, high


def _parse_header(data: bytes, name: str) -> _Header:
    if len(data) < HEADER.size:
        raise _cut_short(name)
    magic, version, count, degree, bits, _flags, _reserved = HEADER.unpack(data)
    if magic != MAGIC:
        raise InputError("IO-038", f"{name} is not an .spz file; export it again.")
    if version not in (1, 2, 3):
        raise InputError(
            "IO-039",
            f"{name} is an .spz of version {version}, but only versions 1 to 4 are supported; save it as version 3.",
        )
    return _checked(version, count, degree, bits, name)


def _checked(version: int, count: int, degree: int, bits: int, name: str) -> _Header:
    """The header, if its numbers are possible."""
    if degree > harmonics.MAX_DEGREE or bits > 23 or count > MOST:
        raise InputError(
            "IO-040",
            f"{name} claims {count:,} Gaussians of SH degree {degree} with {bits} fraction bits, which is impossible or more "
            "than can be read; export it again.",
        )
    return _Header(version, count, degree, bits)


def _unpack(header: _Header, body: bytes) -> Gaussians:
    """The Gaussians in the file's axes, from blocks that are as long as the header says."""
    count = header.count
    data, blocks, start = np.frombuffer(body, dtype=np.uint8), [], 0
    for width in header.widths:
        blocks.append(data[start : start + count * width].reshape(count, width))
        start += count * width
    positions, alphas, colors, scales, quats, sh = blocks
    # half a step from 0 and 1, so that the logit stays finite
    opacity = _tensor(alphas[:, 0] / 255.0).clamp(1 / 1020, 1 - 1 / 1020)
    dc = (_tensor(colors / 255.0) - 0.5) / COLOR_SCALE
    high_sh = (_tensor(sh.astype(np.float32)) - 128) / 128
    return Gaussians(
        means=_positions(header, positions),
        log_scales=_tensor(scales / 16.0) - 10,
        quats=_from_smallest_three(quats) if header.version >= 3 else _from_three_bytes(quats),
        logit_opacities=opacity.logit(),
        sh=torch.cat([dc[:, None], high_sh.reshape(count, header.widths[-1] // 3, 3)], dim=1),
    )


def _positions(header: _Header, packed: Bytes) -> Tensor:
    """[N, 3] from half floats (version 1) or 24-bit fixed point (later versions)."""
    if header.version == 1:
        return _tensor(np.ascontiguousarray(packed).view("<f2").astype(np.float32))
    low, middle, high = (packed.reshape(-1, 3, 3)[..., i].astype(np.int32) for i in range(3))
    fixed = low | middle << 8 | high << 16
    return _tensor((fixed - ((fixed & 0x800000) << 1)) / 2.0**header.bits)


def _turned(g: Gaussians) -> Gaussians:
    """Rotation by 180° about x: OpenCV axes to OpenGL's and back. Each real harmonic keeps or changes its sign."""
    flip = torch.tensor([1.0, -1.0, -1.0]).to(g.means)
    return g.with_(
        means=g.means * flip,
        quats=g.quats * torch.tensor([1.0, 1.0, -1.0, -1.0]).to(g.quats),
        sh=g.sh * _signs(g.sh.shape[1]).to(g.sh)[:, None],
    )


@lru_cache(maxsize=4)
def _signs(bases: int) -> Tensor:
    """±1 [K]: factors of the first K harmonics under a rotation by 180° about x."""
    direction = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, 0.81], dtype=torch.float64), dim=0)
    degree = harmonics.degree_of(bases)
    turned = harmonics.basis(direction * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64), degree)
    return (turned / harmonics.basis(direction, degree)).round()


def _byte(values: Tensor) -> Bytes:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


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


def _from_three_bytes(packed: Bytes) -> Tensor:
    xyz = _tensor(packed / 127.5) - 1
    w = (1 - xyz.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    return rotations.normalise(torch.cat([w, xyz], dim=1))


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


def _from_smallest_three(data: Bytes) -> Tensor:
    packed = np.ascontiguousarray(data).view("<u4")[:, 0].astype(np.uint32)
    largest = packed >> np.uint32(30)
    q = np.zeros((len(packed), 4))
    # the last one written is in the lowest bits
    for axis in (3, 2, 1, 0):
        value = (
            (packed & np.uint32(511))
            / (511 * 2**0.5)
            * np.where(packed >> np.uint32(9) & np.uint32(1), -1, 1)
        )
        there = largest != axis
        q[there, axis] = value[there]
        packed = np.where(there, packed >> np.uint32(10), packed)
    rest = np.sqrt(np.maximum(0.0, 1 - np.square(q).sum(axis=1)))
    np.put_along_axis(q, largest[:, None].astype(np.int64), rest[:, None], axis=1)
    return rotations.normalise(_tensor(q[:, [3, 0, 1, 2]]))
