"""The bytes of an `.spz` file as Gaussians (see `spz`), some at a time: no more memory is taken than they and the file need."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..scene import Gaussians, harmonics, rotations
from ..scene.mending import mended
from .half_turns import X, half_turned
from .spz_axes import HAS_EXTENSIONS, MOST_RECORDS, axes_in, from_axes
from .spz_streams import HEADER as V4_HEADER
from .spz_streams import MAGIC, unpacked_streams

# magic, version, count, SH degree, fraction bits, flags, reserved
HEADER = struct.Struct("<IIIBBBB")
# of an SH DC coefficient; leaves room for colors outside 0..1
COLOR_SCALE = 0.15
# Gaussians; with harmonics of degree 3, 12 GB as float32 and 3 GB as the file's bytes
MOST = 50_000_000
# unpacked bytes that a file of any size may claim, and how many more for each of its own; real ones have two to five
SMALL, PER_BYTE = 64 << 20, 20
# bytes of the file that are unpacked at a time, and Gaussians that are decoded at a time
PIECE, ROWS = 1 << 20, 1 << 14
Bytes = NDArray[np.uint8]


def decode_spz(packed: bytes, name: str) -> Gaussians:
    """Decode the bytes of an .spz file of version 1 to 4. No more is unpacked than the header's count requires.

    Args:
        packed: The file.
        name: Its name for messages.

    Returns:
        N Gaussians.

    Raises:
        InputError: Not an .spz, of an unknown version, cut short, with a false header, or larger than the free memory.
    """
    header, blocks, records = _parts(packed, name)
    axes = axes_in(records, name)
    shapes = [(header.count, width) for width in header.widths]
    made = _unpack(header, [block.reshape(shape) for block, shape in zip(blocks, shapes, strict=True)], axes)
    if header.version > 1:
        return made
    # half floats can be NaN and infinite
    finite = mended([made])[0][0]
    if len(finite) == 0 < len(made):
        raise InputError(
            "IO-043",
            f"{name}: all {len(made):,} Gaussians were left out, because their positions are NaN or infinite; export it again.",
        )
    return finite


def names_axes(packed: bytes, name: str) -> bool:
    """Whether an .spz says which axes it has; where it does not, they are taken for right, up, back. Raises as `decode_spz`."""
    is_v4 = packed[:4] == struct.pack("<I", MAGIC)
    head = (
        packed if is_v4 else zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(packed[:PIECE], HEADER.size)
    )
    # both headers have the flags there
    if not head[14] & HAS_EXTENSIONS:
        return False
    return bool(axes_in(_parts(packed, name)[2], name))


def _parts(packed: bytes, name: str) -> tuple[_Header, list[Bytes], bytes]:
    """Header, blocks and extension records of any version."""
    if packed[:4] == struct.pack("<I", MAGIC):
        return _streams(packed, name)
    return _inflated(packed, name)


def _inflated(packed: bytes, name: str) -> tuple[_Header, list[Bytes], bytes]:
    """Versions 1 to 3."""
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        header = _parse_header(unpacker.decompress(packed[:PIECE], HEADER.size), len(packed), name)
        sizes = [header.count * width for width in header.widths]
        wanted, filled, place = sum(sizes), 0, PIECE
        # one byte more than needed: the checksum behind the last one is read too, and no bomb is unpacked
        limit = wanted + (MOST_RECORDS if header.flags & HAS_EXTENSIONS else 1)
        body, rest = np.empty(limit, np.uint8), unpacker.unconsumed_tail
        while filled < limit and (rest or place < len(packed)) and not unpacker.eof:
            if not rest:
                rest, place = packed[place : place + PIECE], place + PIECE
            piece = unpacker.decompress(rest, min(PIECE, limit - filled))
            body[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled, rest = filled + len(piece), unpacker.unconsumed_tail
    except zlib.error as error:
        raise InputError(
            "IO-041", f"{name} is not an .spz file, or it is damaged; copy or export it again."
        ) from error
    if filled < wanted:
        raise InputError(
            "IO-042",
            f"{name} claims {header.count:,} Gaussians but contains {filled:,} of {wanted:,} bytes; copy or export it again.",
        )
    records = body[wanted:filled].tobytes() if header.flags & HAS_EXTENSIONS else b""
    return header, np.split(body[:wanted], np.cumsum(sizes)[:-1]), records


def _streams(packed: bytes, name: str) -> tuple[_Header, list[Bytes], bytes]:
    """Version 4."""
    if len(packed) < V4_HEADER.size:
        raise _cut_short(name)
    _, version, count, degree, bits, flags, _, table = V4_HEADER.unpack_from(packed)
    if version != 4:
        raise InputError("IO-036", f"{name} is an .spz of version {version}; save it as version 3 or 4.")
    header = _checked(_Header(version, count, degree, bits, flags), len(packed), name)
    blocks = unpacked_streams(packed, [header.count * width for width in header.widths], name)
    records = packed[V4_HEADER.size : table] if flags & HAS_EXTENSIONS else b""
    return header, [np.frombuffer(block, np.uint8) for block in blocks], records


def _cut_short(name: str) -> InputError:
    return InputError("IO-037", f"{name} is cut short; copy or export it again.")


@dataclass(frozen=True)
class _Header:
    """The 16 bytes at the beginning."""

    version: int
    count: int
    degree: int
    bits: int
    flags: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes of one Gaussian in each block: position, opacity, color, scale, rotation, higher harmonics."""
        high = 3 * (harmonics.bases(self.degree) - 1)
        return 6 if self.version == 1 else 9, 1, 3, 3, 4 if self.version >= 3 else 3, high


def _parse_header(data: bytes, size: int, name: str) -> _Header:
    if len(data) < HEADER.size:
        raise _cut_short(name)
    magic, version, count, degree, bits, flags, _reserved = HEADER.unpack(data)
    if magic != MAGIC:
        raise InputError("IO-038", f"{name} is not an .spz file; export it again.")
    if version not in (1, 2, 3):
        raise InputError(
            "IO-039",
            f"{name} is an .spz of version {version}, but only versions 1 to 4 are supported; save it as version 3.",
        )
    return _checked(_Header(version, count, degree, bits, flags), size, name)


def _checked(header: _Header, size: int, name: str) -> _Header:
    """The header of a file of `size` bytes, if its numbers are possible."""
    count, degree, bits = header.count, header.degree, header.bits
    if degree > harmonics.MAX_DEGREE or bits > 23 or count > MOST:
        raise InputError(
            "IO-040",
            f"{name} claims {count:,} Gaussians of SH degree {degree} with {bits} fraction bits, which is impossible or more "
            "than can be read; export it again.",
        )
    unpacked = count * sum(header.widths)
    if unpacked > SMALL + PER_BYTE * size:
        raise InputError(
            "IO-089",
            f"{name} has {size:,} bytes but claims {count:,} Gaussians ({unpacked:,} bytes), which no splat packs to; export it "
            "again.",
        )
    shortage = backends.shortage(unpacked + 4 * count * (11 + 3 * harmonics.bases(degree)))
    if shortage:
        raise InputError(
            "IO-090",
            f"{name} has {count:,} Gaussians, which need {shortage}. Close other programs, or export fewer "
            "Gaussians.",
        )
    return header


def _unpack(header: _Header, blocks: Sequence[Bytes], axes: str) -> Gaussians:
    """The Gaussians in the pack's axes, from blocks [N, width] in those of the file."""
    count, bases = header.count, harmonics.bases(header.degree)
    shapes = {"means": (3,), "log_scales": (3,), "quats": (4,), "logit_opacities": (), "sh": (bases, 3)}
    result = Gaussians(**{name: torch.empty(count, *shape) for name, shape in shapes.items()})
    for start in range(0, count, ROWS):
        rows = slice(start, start + ROWS)
        made = from_axes(_part(header, [block[rows] for block in blocks]), axes)
        for into, tensor in zip(result.tensors().values(), made.tensors().values(), strict=True):
            into[rows] = tensor
    return result


def _part(header: _Header, blocks: Sequence[Bytes]) -> Gaussians:
    """Some of the Gaussians in the file's axes."""
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
        sh=torch.cat([dc[:, None], high_sh.reshape(len(sh), header.widths[-1] // 3, 3)], dim=1),
    )


def _positions(header: _Header, packed: Bytes) -> Tensor:
    """[N, 3] from half floats (version 1) or 24-bit fixed point (later versions)."""
    if header.version == 1:
        return _tensor(np.ascontiguousarray(packed).view("<f2").astype(np.float32))
    low, middle, high = (packed.reshape(-1, 3, 3)[..., i].astype(np.int32) for i in range(3))
    fixed = low | middle << 8 | high << 16
    return _tensor((fixed - ((fixed & 0x800000) << 1)) / 2.0**header.bits)


def turned(g: Gaussians) -> Gaussians:
    """OpenCV axes to OpenGL's and back."""
    return half_turned(g, X)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _from_three_bytes(packed: Bytes) -> Tensor:
    xyz = _tensor(packed / 127.5) - 1
    w = (1 - xyz.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    return rotations.normalise(torch.cat([w, xyz], dim=1))


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
