"""Opening .safetensors files. Everything that reads tensors does so here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from ..wording import is_utf8
from .paths import open_regular
from .safetensors_header import Entry, read_header
from .safetensors_writer import DTYPES

# others are left to the library
TYPES = {name: dtype for dtype, name in DTYPES.items()}


@contextmanager
def open_tensors(path: Path) -> Generator[Any, None, None]:
    """What `safetensors.safe_open` gives for PyTorch, also for paths that are not UTF-8.

    Raises SafetensorError or OSError.
    """
    if is_utf8(str(path)):
        with safe_open(path, framework="pt") as file:
            yield file
        return
    # Rust takes no such path; only systems with this folder have any
    with open_regular(path) as held, safe_open(f"/proc/self/fd/{held.fileno()}", framework="pt") as file:
        yield file


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file in memory of their own.

    Views of the file's memory may lie anywhere, on which bits can depend, and change when the file is replaced; while they are
    copied, a file would be in memory twice. Where a file is mapped, Windows lets nobody replace it, and other systems end the
    process when it is cut. So tensors are read, not mapped.
    Raises SafetensorError, HeaderError, ValueError or OSError.
    """
    # the library makes the same checks as before it gives tensors
    with open_tensors(path) as library, open_regular(path) as file:
        places = read_header(path).tensors
        start = 8 + int.from_bytes(file.read(8), "little")
        return {
            name: library.get_tensor(name).clone()
            if places[name].dtype not in TYPES
            else _read(file, start + places[name].start, places[name])
            for name in library.keys()
        }


def _read(file: BinaryIO, start: int, entry: Entry) -> Tensor:
    values = torch.empty(entry.end - entry.start, dtype=torch.uint8)
    file.seek(start)
    view = values.numpy().data
    done = 0
    # one call reads at most 2 GB
    while done < len(view):
        count = file.readinto(view[done:])  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            raise ValueError("the file is cut short")
        done += count
    return values.view(TYPES[entry.dtype]).view(entry.shape)
