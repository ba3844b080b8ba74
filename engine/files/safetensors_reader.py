"""Opening .safetensors files. Everything that reads tensors does so here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ..wording import is_utf8
from .paths import open_regular


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

    Views of the file's memory may lie anywhere, on which bits can depend, and change when the file is replaced.
    Raises SafetensorError or OSError.
    """
    with open_tensors(path) as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}
