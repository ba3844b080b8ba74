"""JSON from strangers: UTF-8, no key twice, bounded size and depth; NaN is let through so that its owner is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from .paths import printable, write_atomic

LARGEST = 256 * 2**20  # bytes; a data set's JSON has a few megabytes at most


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in the file `path`, called `name` in messages. InputError where it is not one JSON object."""
    if path.stat().st_size > LARGEST:
        raise InputError(f"{name} has {path.stat().st_size:,} bytes; a data set's JSON is far smaller.")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not valid UTF-8 (byte 0x{raw[error.start]:02X} at position {error.start}); "
            "save it again in the UTF-8 encoding."
        ) from error

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                owner = _owner(pairs)
                where = f" in '{printable(owner)}'" if owner else ""
                raise InputError(
                    f'{name}: the key "{printable(key)}" occurs twice{where}; keep the one that is right.'
                )
            result[key] = value
        return result

    try:
        data = json.loads(text, object_pairs_hook=checked)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name} is not complete JSON ({error.msg} at line {error.lineno}, column {error.colno}); "
            "copy or export it again."
        ) from error
    except RecursionError as error:
        raise InputError(f"{name} is nested too deeply to be a data set's description.") from error
    except InputError:
        raise
    except ValueError as error:  # Python refuses integers of thousands of digits
        raise InputError(f"{name} holds a number that cannot be read; export it again.") from error
    if not isinstance(data, dict):
        raise InputError(f"{name}: one JSON object was expected, found {type(data).__name__}.")
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` as JSON (UTF-8, numbers at full precision) under a temporary name, then rename."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(path, text.encode("utf-8"))


def _owner(pairs: list[tuple[str, Any]]) -> str:
    for wanted in ("name", "file_path", "camera_label", "id"):
        for key, value in pairs:
            if key == wanted and isinstance(value, str):
                return value
    return ""
