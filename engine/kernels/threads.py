"""Cores of this process, and the thread counts of torch and of the kernels."""

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


@contextmanager
def one_thread() -> Generator[None]:
    """One torch thread inside; the previous count afterwards.

    Torch's threads gain little on two idle cores and cost several times the work on busy ones, where they wait for each other
    (docs/benchmarks.md). The count also affects bits, so this lets a run resume on another number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
