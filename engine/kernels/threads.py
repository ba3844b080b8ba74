"""Cores of this process, and the thread count of rasterizers with their own threads."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

# counts of nested `fixed_threads`; the last one is in effect
_fixed: list[int] = []


@contextmanager
def fixed_threads(count: int) -> Generator[None, None, None]:
    """Set `threads_now` to `count` inside the context, regardless of torch's thread count."""
    _fixed.append(count)
    try:
        yield
    finally:
        _fixed.pop()


def threads_now() -> int:
    """Number of threads for a rasterizer with `uses_own_threads`."""
    return _fixed[-1] if _fixed else torch.get_num_threads()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
