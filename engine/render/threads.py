"""How many threads a rasterizer with threads of its own uses."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

_fixed: list[int] = []  # the innermost `fixed_threads` counts


@contextmanager
def fixed_threads(count: int) -> Generator[None, None, None]:
    """Inside, `threads_now` is `count` whatever torch's own count is."""
    _fixed.append(count)
    try:
        yield
    finally:
        _fixed.pop()


def threads_now() -> int:
    """Threads that a rasterizer with `uses_own_threads` draws on."""
    return _fixed[-1] if _fixed else torch.get_num_threads()
