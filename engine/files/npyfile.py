"""NumPy's .npy from untrusted sources: plain numbers only, and the header must agree with the file's length."""

from __future__ import annotations

import io
import os
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .paths import open_regular

LARGEST = 512 * 2**20  # bytes


def read_numbers(path: Path, name: str) -> NDArray[Any]:
    """The array in `path` as float64; `name` is for messages. Nothing is unpickled.

    InputError: missing, not a file, larger than 512 MB, damaged, Python objects, something other than numbers, a length that
    does not match.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise InputError(
                    "FIL-022",
                    f"{name} has {size:,} bytes, far more than cameras or points need. Check that it is the right file.",
                )
            data = file.read(size)
    except OSError as error:
        raise InputError(
            "FIL-134", f"{name} cannot be read: {error.strerror}. Give the path of an .npy file."
        ) from error
    return parse_numbers(data, name).astype(np.float64)


def parse_numbers(data: bytes, name: str) -> NDArray[Any]:
    """The array in the bytes of a .npy file, in its own type and read-only. Raises InputError as `read_numbers` does."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, dtype = read(file)
    except (
        ValueError,
        EOFError,
        SyntaxError,
        TypeError,
        KeyError,
        tokenize.TokenError,
        RecursionError,
    ) as error:
        raise InputError(
            "FIL-023", f"{name} cannot be read: it is damaged or is not an .npy file. Export it again."
        ) from error
    if dtype.hasobject:
        raise InputError(
            "FIL-024",
            f"{name} cannot be read: it contains Python objects, which are not unpickled. Export plain "
            "numbers.",
        )
    if dtype.kind not in "fiu":
        raise InputError("FIL-025", f"{name} does not contain numbers. Export it again.")
    count = 1
    for length in shape:
        count *= max(int(length), 0)
    rest = len(data) - file.tell()
    if count * dtype.itemsize != rest:
        raise InputError(
            "FIL-026",
            f"{name} is cut short or damaged: it claims {count:,} numbers but contains "
            f"{rest // dtype.itemsize:,}. Copy or export it again.",
        )
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=file.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")
