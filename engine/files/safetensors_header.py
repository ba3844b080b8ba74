"""The header of a .safetensors file, read without the tensors and without trust. Everything that looks into one does so here.

Layout: an unsigned 64-bit little-endian length, that many bytes of JSON, the tensors. The JSON maps each tensor's name to
its dtype, shape and place, and "__metadata__" to a table of texts.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from ..errors import InputError
from .jsonfile import parse_json
from .paths import open_regular, printable

# bytes; the format's own limit
LARGEST_HEADER = 100 * 2**20
# bytes of a number, by the format's name of its type
WIDTHS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}

Flaw = Literal[
    "unreadable", "no header", "header cut short", "not JSON", "bad entry", "cut short", "extra bytes"
]


class HeaderError(InputError):
    """A header that cannot be read. The message is whole; `flaw` is for callers that know better what was expected."""

    def __init__(self, code: str, message: str, flaw: Flaw) -> None:
        super().__init__(code, message)
        self.flaw: Flaw = flaw


@dataclass(frozen=True)
class Entry:
    """One tensor's line in the table."""

    dtype: str  # as the format names it: "F32"
    shape: tuple[int, ...]
    start: int  # bytes behind the header
    end: int


@dataclass(frozen=True)
class Header:
    """The table of contents of one .safetensors file."""

    metadata: dict[str, str]
    tensors: dict[str, Entry]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.tensors.items()}


def read_header(
    path: Path, name: str | None = None, *, largest: int = LARGEST_HEADER, must_be_whole: bool = True
) -> Header:
    """The header of `path`, called `name` in messages (default: the file's name).

    Opens regular files only. `largest` is in bytes. With `must_be_whole` every claim is held against the file's size, and
    the tensors must fill it one after the other, as the safetensors library demands.
    Raises HeaderError, and nothing else.
    """
    name = printable(path.name) if name is None else name
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= largest:
                raise _not_one(name, "no header")
            if 8 + length > size:
                raise HeaderError(
                    "FIL-063",
                    f"{name} is cut short inside its header. Copy or download it again.",
                    "header cut short",
                )
            text = file.read(length)
    except OSError as error:
        raise HeaderError(
            "FIL-064",
            f"{name} cannot be read: {error.strerror}. Check the file and its permissions.",
            "unreadable",
        ) from error
    try:
        table = parse_json(text)
    except ValueError as error:
        raise _not_one(name) from error
    if not isinstance(table, dict):
        raise _not_one(name)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _not_one(name)
    tensors = {key: _entry(value, key, name) for key, value in table.items()}
    whole = 8 + length + max((entry.end for entry in tensors.values()), default=0)
    if must_be_whole and whole > size:
        raise HeaderError(
            "FIL-065",
            f"{name} is cut short: only {size} of {whole} bytes are present. Copy or download it again.",
            "cut short",
        )
    if must_be_whole:
        _check_places(tensors, name)
        if whole < size:
            raise HeaderError(
                "FIL-089",
                f"{name} has {size - whole} bytes after its last tensor, so it was not saved or copied properly. "
                "Copy or download it again.",
                "extra bytes",
            )
    return Header(metadata, tensors)


def _not_one(name: str, flaw: Flaw = "not JSON") -> HeaderError:
    return HeaderError(
        "FIL-066", f"{name} is not a .safetensors file: its header cannot be read. Choose another file.", flaw
    )


def _entry(value: Any, key: str, name: str) -> Entry:
    if isinstance(value, dict):
        dtype, shape, place = (value.get(part) for part in ("dtype", "shape", "data_offsets"))
        if isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(place) and len(place) == 2:
            start, end = place
            if start <= end:
                return Entry(dtype, tuple(shape), start, end)
    raise _bad_entry(key, name)


def _check_places(tensors: dict[str, Entry], name: str) -> None:
    """Raise HeaderError unless each tensor has the bytes of its shape, and the next one starts where it ends."""
    end = 0
    for key, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        width = WIDTHS.get(entry.dtype)
        is_full = width is None or entry.end - entry.start == width * math.prod(entry.shape)
        if entry.start != end or not is_full:
            raise _bad_entry(key, name)
        end = entry.end


def _bad_entry(key: str, name: str) -> HeaderError:
    return HeaderError(
        "FIL-067",
        f"{name}: the entry of '{printable(key[:60])}' is damaged. Copy or download it again.",
        "bad entry",
    )


def _are_sizes(numbers: Any) -> TypeGuard[list[int]]:
    # type, not isinstance: true is not a size
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
