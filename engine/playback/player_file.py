"""Player files (`.gs4dclip`): a moving scene in the size of a short video, for players that evaluate motion on the GPU.

docs/player_format.md specifies the format. One binary file, little endian: "GS4C", u32 version, u32 header length, the
JSON header padded so that the data begins at a multiple of 16, then blocks: an .spz of the first frame and, for the
first `moving` Gaussians, tracks of knots. Version 1 has one set of tracks; version 2 has one for each segment of a long
scene (`segments.py`). The file's axes are x right, y up, z back (OpenGL, three.js): this pack's world rotated by 180°
about x. Everything in `PlayerFile` is in this pack's axes; `player_header.py` converts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.paths import open_regular
from .player_content import PlayerFile
from .player_header import (
    PREFIX,
    SEGMENTED,
    VERSION,
    block_of,
    camera_entries,
    check_moving,
    content_of,
    encode_header,
    explained,
    in_file_axes,
    motion_from,
    played,
    read_header,
)
from .segments import Read, read_segmented
from .tracks import Track, lay_out

__all__ = [
    "camera_entries",
    "decode_player_file",
    "encode_player_file",
    "in_file_axes",
    "played",
    "read_player_file",
    "write_player_file",
]

# bytes of a header that are read at most
LARGEST_HEADER = 1 << 26


def encode_player_file(header: dict[str, Any], spz: bytes, tracks: Iterable[Track]) -> bytes:
    """Encode a player file.

    Args:
        header: The complete header except for the positions of the blocks; its "motion" has no tracks yet, or is None.
        spz: The first frame as an .spz.
        tracks: Tracks in the file's axes (`in_file_axes`).

    Returns:
        The file's bytes.

    Raises:
        InputError: The header contains NaN.
    """
    blocks = [spz]
    header = {**header, "spz": {"offset": 0, "length": len(spz)}}
    if header["motion"] is not None:
        entries, packed = lay_out([(track, None) for track in tracks], len(spz))
        blocks += packed
        header["motion"] = {**header["motion"], "tracks": entries}
    return b"".join([encode_header(header, VERSION), *blocks])


def write_player_file(data: bytes | Iterable[bytes], path: Path | str) -> Path:
    """Write the bytes of a player file atomically.

    Args:
        data: The bytes that `encode_player_file` returned, or parts of a file.
        path: The file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: The file cannot be written.
    """
    path = Path(path)
    with write_atomically(path) as partial:
        with open(partial, "wb") as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
    return path


def read_player_file(path: Path | str) -> PlayerFile:
    """Read a player file.

    Args:
        path: A `.gs4dclip` file. One in segments is left on disk; `at` reads the segment of the time that it is asked for.

    Returns:
        Its content in this pack's axes; a `SegmentedFile` if it is in segments.

    Raises:
        InputError: The file is missing, of another format or a newer version, cut short, or inconsistent.

    Example:
        >>> read_player_file("scene.gs4dclip").at(0.5).means.shape
        torch.Size([8000, 3])
    """
    path = Path(path)

    def read(offset: int, length: int) -> bytes:
        with open_regular(path) as file:
            file.seek(offset)
            return file.read(length)

    try:
        with open_regular(path) as file:
            prefix = file.read(PREFIX)
            if int.from_bytes(prefix[4:8], "little") != SEGMENTED:
                return decode_player_file(prefix + file.read(), path.name)
            head = prefix + file.read(min(int.from_bytes(prefix[8:12], "little"), LARGEST_HEADER))
            size = file.seek(0, 2)
    except OSError as error:
        raise InputError(
            "PLB-006", f"{path.name} cannot be read: {error.strerror}; check the path."
        ) from error
    return _decode(head, read, size, path.name)


def decode_player_file(data: bytes, name: str) -> PlayerFile:
    """Decode the bytes of a player file; `name` identifies it in errors. Raises InputError as `read_player_file`."""
    return _decode(data, lambda offset, length: data[offset : offset + length], len(data), name)


def _decode(head: bytes, read: Read, size: int, name: str) -> PlayerFile:
    """`head`: at least the header. `read`: gives bytes of the file, whose `size` is known."""
    version, about, start = read_header(head, name)
    with explained(name):
        if version == SEGMENTED:
            return read_segmented(about, read, start, size, name)
        return _in_one_piece(about, memoryview(head)[start:])


def _in_one_piece(about: dict[str, Any], body: memoryview) -> PlayerFile:
    made = content_of(about, block_of(about["spz"], body, "splat"))
    motion = None if about["motion"] is None else motion_from(about["motion"], body, made.moving)
    check_moving(made.moving, len(made.base), motion is not None or not made.moving)
    return replace(made, motion=motion)
