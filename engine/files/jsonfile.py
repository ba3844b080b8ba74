"""Untrusted JSON: UTF-8, no duplicate keys, bounded size and depth; NaN passes, so that its reader can name it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .atomic import write_atomically
from .paths import open_regular, printable

# bytes; a dataset's JSON has a few megabytes at most
LARGEST = 256 * 2**20
# objects and lists within each other
DEEPEST = 100
# commas, colons and opening brackets: each makes up to 80 bytes of memory
MOST_MARKS = 6_000_000
# digits of an integer that are looked at: one with more is not even a float
DIGITS = 310

# characters that are looked at together
PART = 1 << 22

_BACKSLASHES = re.compile(r"\\*")


class DeeplyNested(ValueError):
    """JSON with more levels than any description has."""


class ManyValues(ValueError):
    """JSON with more values than any description has."""


def parse_json(
    text: str | bytes,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON `text` from an untrusted source (bytes are UTF-8), at most `DEEPEST` levels deep.

    Whole numbers that 64 bits do not hold become floats, infinity among them, as 1e999 does: what reads the value names it.
    Raises ValueError, and nothing else: json.JSONDecodeError for what is not JSON, DeeplyNested, ManyValues,
    UnicodeDecodeError.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    # counted beforehand: json.loads recurses, and the interpreter's own limit may be set beyond what the stack holds
    _check(text)
    return json.loads(text, object_pairs_hook=object_pairs_hook, parse_int=_whole)


def _check(text: str) -> None:
    """Raise ValueError where a JSON text is too deep or has too many values."""
    brackets = text.count("[") + text.count("{")
    # a few brackets cannot be deep, and most texts have few
    if brackets <= DEEPEST and brackets + text.count(",") + text.count(":") <= MOST_MARKS:
        return
    depth = marks = 0
    for codes in _structure(text):
        opens = (codes == ord("[")) | (codes == ord("{"))
        closes = (codes == ord("]")) | (codes == ord("}"))
        marks += int(np.count_nonzero(opens | (codes == ord(",")) | (codes == ord(":"))))
        depths = depth + np.cumsum(opens.astype(np.int8) - closes, dtype=np.int32)
        if depths.max(initial=0) > DEEPEST:
            raise DeeplyNested(f"nested more than {DEEPEST} levels deep")
        if marks > MOST_MARKS:
            raise ManyValues(f"more than {MOST_MARKS:,} commas, colons and brackets")
        depth = int(depths[-1]) if len(depths) else depth


def _structure(text: str) -> Iterator[NDArray[np.uint8]]:
    """The bytes outside of strings, of one part of a JSON text after the other."""
    start, is_inside = 0, False
    while start < len(text):
        end = start + PART
        if text[end - 1 : end] == "\\":
            # an escape is not torn apart
            end = _BACKSLASHES.match(text, end).end() + 1  # pyright: ignore[reportOptionalMemberAccess]
        part = text[start:end].encode("utf-8", "surrogatepass")
        codes = np.frombuffer(part.replace(b"\\\\", b"__").replace(b'\\"', b"__"), np.uint8)
        inside = np.logical_xor.accumulate(codes == ord('"')) ^ is_inside
        yield codes[~inside]
        start, is_inside = end, bool(inside[-1])


def _whole(number: str) -> int | float:
    if len(number) > DIGITS:
        return -math.inf if number.startswith("-") else math.inf
    value = int(number)
    # seeds fill 64 bits without a sign
    return value if -(1 << 63) <= value < 1 << 64 else float(number)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in the file `path`, called `name` in messages. InputError where it is not one JSON object."""
    try:
        with open_regular(path) as file:
            # no more than there is: a read sets its whole buffer aside first
            raw = file.read(min(os.fstat(file.fileno()).st_size, LARGEST) + 1)
    except OSError as error:
        raise InputError(
            "FIL-012", f"{name} cannot be read: {error.strerror}. Check the file and its permissions."
        ) from error
    if len(raw) > LARGEST:
        raise InputError(
            "FIL-013",
            f"{name} has more than {LARGEST:,} bytes, too many for a dataset's JSON. Check that it is the "
            "right file.",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "FIL-014",
            f"{name} is not valid UTF-8 (byte 0x{raw[error.start]:02X} at position {error.start}). Save "
            "it again as UTF-8.",
        ) from error

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                owner = _owner(pairs)
                where = f" in '{printable(owner)}'" if owner else ""
                raise InputError(
                    "FIL-015",
                    f'{name}: the key "{printable(key)}" occurs twice{where}. Keep the correct one.',
                )
            result[key] = value
        return result

    try:
        data = parse_json(text, checked)
    except json.JSONDecodeError as error:
        raise InputError(
            "FIL-016",
            f"{name} is not complete JSON ({error.msg} at line {error.lineno}, column {error.colno}). "
            "Copy or export it again.",
        ) from error
    except DeeplyNested as error:
        raise InputError(
            "FIL-017", f"{name} is nested more than {DEEPEST} levels deep. Check that it is the right file."
        ) from error
    except ManyValues as error:
        raise InputError(
            "FIL-135",
            f"{name} has millions of values, too many for a dataset's JSON. Check that it is the right file.",
        ) from error
    if not isinstance(data, dict):
        raise InputError(
            "FIL-019", f"{name} contains {type(data).__name__} instead of a JSON object. Export it again."
        )
    return data


def json_text(data: Any, **options: Any) -> bytes:
    """`data` as JSON in UTF-8; bytes of names that are not UTF-8 are escaped as JSON has it, and so read back as they were."""
    text = json.dumps(data, ensure_ascii=False, **options)
    # a lone surrogate stands inside a string only, where "\\udce9" is its escape
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` as JSON (UTF-8, numbers at full precision) under a temporary name, then rename."""
    text = json_text(data, indent=1, allow_nan=False)
    with write_atomically(path) as partial:
        partial.write_bytes(text)


def _owner(pairs: list[tuple[str, Any]]) -> str:
    for wanted in ("name", "file_path", "camera_label", "id"):
        for key, value in pairs:
            if key == wanted and isinstance(value, str):
                return value
    return ""
