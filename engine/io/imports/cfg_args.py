"""The text file `cfg_args`: a Python `Namespace(...)` expression, read as literals and never evaluated."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from ...errors import InputError

# bytes
LARGEST = 1 << 20


def read_cfg_args(path: Path) -> dict[str, Any]:
    """The settings by name. Raises InputError if the file contains anything but one Namespace of plain values."""
    if path.stat().st_size > LARGEST:
        raise InputError(
            "IO-005",
            f"{path.name} has {path.stat().st_size:,} bytes, too many for a settings file (at most {LARGEST:,}); copy it again.",
        )
    try:
        tree = ast.parse(path.read_text("utf-8").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(
            "IO-006", f"{path.name} is not a settings file ({type(error).__name__}); copy it again."
        ) from error
    if (
        not isinstance(tree, ast.Call)
        or not isinstance(tree.func, ast.Name)
        or tree.func.id != "Namespace"
        or tree.args
    ):
        raise InputError(
            "IO-007", f"{path.name} does not contain a single Namespace(...) of plain values; copy it again."
        )
    settings: dict[str, Any] = {}
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise InputError(
                "IO-008",
                f"{path.name} unpacks another value (**) into its Namespace(...); keep plain values only.",
            )
        try:
            value = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise InputError(
                "IO-009",
                f"{path.name}: the value of '{keyword.arg}' is not a plain value; write a number, text, list or None.",
            ) from error
        settings[keyword.arg] = value
    return settings
