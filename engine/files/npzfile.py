"""NumPy's .npz from strangers: plain numbers only, and never more memory than the caller allows."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .atomic import write_atomically
from .npyfile import parse_numbers
from .paths import open_regular, printable

MOST_ARRAYS = 10_000


def read_arrays(
    path: Path, name: str, wanted: Collection[str] | None, largest: int
) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz by name, in the types they are stored in; nothing is unpickled.

    Args:
        path: The file.
        name: The file's name for messages.
        wanted: Which arrays to read; those that are missing are left out. None reads all.
        largest: How many bytes all of them may have once they are unpacked.

    Raises:
        InputError: Missing, damaged, larger, Python objects, or something other than numbers.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = {
                entry.filename.removesuffix(".npy"): entry
                for entry in archive.infolist()
                if wanted is None or entry.filename.removesuffix(".npy") in wanted
            }
            if sum(e.file_size for e in entries.values()) > largest or len(entries) > MOST_ARRAYS:
                raise InputError(
                    "FIL-068",
                    f"{name} unpacks to more than {largest // 10**6} MB, far more than such a file needs; select another "
                    "file.",
                )
            raw = {key: _unpacked(archive, entry) for key, entry in entries.items()}
    except FileNotFoundError as error:
        raise InputError("FIL-069", f"{name} does not exist; check the path.") from error
    except (
        zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError,
        KeyError,
    ) as error:  # fmt: skip
        if isinstance(error, InputError):
            raise
        raise InputError(
            "FIL-070", f"{name} cannot be read as an .npz file: it is damaged; copy or export it again."
        ) from error
    return {key: parse_numbers(data, f"{name}: {printable(key)[:60]}") for key, data in raw.items()}


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        # the size is given, since reading to the end would unpack more than the entry claims
        return file.read(entry.file_size)


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a compressed .npz, whole or not at all: the same arrays always give the same bytes.

    Raises InputError where that is not possible.
    """
    with write_atomically(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asanyarray(array), allow_pickle=False)
            # without a date of its own, which would be that of writing
            entry = zipfile.ZipInfo(f"{key}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())
