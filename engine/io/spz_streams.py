"""The container of `.spz` version 4: a plain header, a table of contents, and one Zstandard frame for each attribute.

Unpacked one after the other, the frames are the blocks of version 3; `spz.decode_spz` reads both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from .. import backends
from ..errors import InputError

MAGIC = 0x5053474E
# of Zstandard: higher ones take several times as long for a percent
LEVEL = 9
# magic, version, count, SH degree, fraction bits, flags, streams, place of the table, reserved
HEADER = struct.Struct("<IIIBBBBI12x")
# packed and unpacked size of a stream
ENTRY = struct.Struct("<QQ")


def unpacked_streams(packed: bytes, sizes: Sequence[int], name: str) -> list[bytes]:
    """The attributes' blocks, in the order of version 3.

    Args:
        packed: The whole file, whose header was checked.
        sizes: Bytes of each block; blocks of size 0 have no stream and are empty.
        name: The file's name in messages.

    Raises:
        InputError: The table does not fit the file or the sizes, a stream is damaged, or the package zstandard is missing.
    """
    backends.require("zstandard")
    wanted = [size for size in sizes if size]
    *_, streams, place = HEADER.unpack_from(packed)
    end = place + streams * ENTRY.size
    # without Gaussians there are streams of nothing
    if streams != len(wanted) and any(sizes):
        raise _damaged(name, f"has {streams} streams instead of {len(wanted)}")
    if place < HEADER.size or end > len(packed):
        raise _damaged(name, "is cut short")
    blocks: list[bytes] = []
    entries = (ENTRY.unpack_from(packed, place + i * ENTRY.size) for i in range(len(wanted)))
    for size in sizes:
        if not size:
            blocks.append(b"")
            continue
        length, claimed = next(entries)
        if claimed != size or end + length > len(packed):
            raise _damaged(name, f"claims {claimed:,} bytes in a stream of {size:,}, or is cut short")
        blocks.append(_unpacked(packed[end : end + length], size, name))
        end += length
    return blocks


def packed_streams(blocks: Sequence[bytes], count: int, degree: int, bits: int) -> bytes:
    """A file of version 4.

    Args:
        blocks: The attributes' blocks, in the order of version 3.
        count: Of Gaussians.
        degree: Of spherical harmonics.
        bits: Fraction bits of positions.

    Raises:
        InputError: The package zstandard is missing.
    """
    backends.require("zstandard")
    import zstandard

    packer = zstandard.ZstdCompressor(level=LEVEL)
    filled = [block for block in blocks if block]
    streams = [packer.compress(block) for block in filled]
    header = HEADER.pack(MAGIC, 4, count, degree, bits, 0, len(streams), HEADER.size)
    table = [ENTRY.pack(len(s), len(b)) for s, b in zip(streams, filled, strict=True)]
    return b"".join([header, *table, *streams])


def _unpacked(stream: bytes, size: int, name: str) -> bytes:
    import zstandard

    reader: Any = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stream)
    try:
        # one byte more than needed: enough to notice excess data, and too little for a decompression bomb
        block = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise _damaged(name, "has a stream that cannot be unpacked") from error
    if len(block) != size:
        raise _damaged(name, f"has a stream of another size than {size:,} bytes")
    return block


def _damaged(name: str, what: str) -> InputError:
    return InputError("IO-086", f"{name} {what}; copy or export it again.")
