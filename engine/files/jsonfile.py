"""Untrusted JSON: UTF-8, no duplicate keys, bounded size and depth; NaN passes, so that its reader can name it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .atomic import write_atomically
from .paths import open_regular, printable

# bytes; a dataset's JSON has a few megabytes at most
LARGEST = 256 * 2**20
# objects and lists within each other
DEEPEST = 100
# digits of an integer that are looked at: one with more is not even a float
DIGITS = 310

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")


class DeeplyNested(ValueError):
    """JSON with more levels than any description has."""


def parse_json(
    text: str | bytes,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON `text` from an untrusted source (bytes are UTF-8), at most `DEEPEST` levels deep.

    Whole numbers that 64 bits do not hold become floats, infinity among them, as 1e999 does: what reads the value names it.
    Raises ValueError, and nothing else: json.JSONDecodeError for what is not JSON, DeeplyNested, UnicodeDecodeError.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    # counted beforehand: json.loads recurses, and the interpreter's own limit may be set beyond what the stack holds
    if _depth(text) > DEEPEST:
        raise DeeplyNested(f"nested more than {DEEPEST} levels deep")
    return json.loads(text, object_pairs_hook=object_pairs_hook, parse_int=_whole)


def _depth(text: str) -> int:
    """How many brackets are open at once, outside of strings."""
    # a few brackets cannot be deep, and most texts have few
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    brackets = _NO_BRACKET.sub("", _STRING.sub("", text)).encode()
    codes = np.frombuffer(brackets, np.uint8)
    steps = np.where((codes == ord("[")) | (codes == ord("{")), np.int8(1), np.int8(-1))
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


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
    if not isinstance(data, dict):
        raise InputError(
            "FIL-019", f"{name} contains {type(data).__name__} instead of a JSON object. Export it again."
        )
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` as JSON (UTF-8, numbers at full precision) under a temporary name, then rename."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    with write_atomically(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def _owner(pairs: list[tuple[str, Any]]) -> str:
    for wanted in ("name", "file_path", "camera_label", "id"):
        for key, value in pairs:
            if key == wanted and isinstance(value, str):
                return value
    return ""
