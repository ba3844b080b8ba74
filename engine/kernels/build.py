"""Compile the CPU kernels, cache their machine code, and launch them on several cores.

numba's own parallel loops are not used: they multiply the compile time, and the threading layer that pip installs
everywhere (workqueue) aborts the process when two threads enter it. Kernels release the GIL and process a range of items;
a pool of Python threads takes ranges until all are done.
"""
# pyright: basic, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import functools
import gc
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numba

from .cache import cache_folder, compiling_alone
from .threads import threads_now


@contextmanager
def _collection_paused() -> Generator[None]:
    """Inside, Python does not look for garbage, which compiling makes little of and which takes a sixth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, for each element type that is used, and cache the machine code in `cache_folder()`."""
    # Undocumented: numba reads `config.CACHE_DIR` while `njit(cache=True)` is applied. It does not have an argument for the
    # folder, and its default fails if the package's folder is read-only. The alternative, setting NUMBA_CACHE_DIR before
    # numba is imported, would move the kernels of other packs too. See tests/engine/test_numba_api.py.
    folder = cache_folder()
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(folder or "")
        compiled = numba.njit(nogil=True, boundscheck=False, error_model="numpy", cache=folder is not None)(
            function
        )
    finally:
        numba.config.CACHE_DIR = before
    # `compile` looks into the cache first, and is called once for each element type
    compile_or_load = compiled.compile

    @functools.wraps(compile_or_load)
    def compile_alone(signature: Any) -> Any:
        with (
            compiling_alone(f"{function.__module__.rpartition('.')[2]}.{function.__name__}"),
            _collection_paused(),
        ):
            return compile_or_load(signature)

    compiled.compile = compile_alone
    return compiled


def part(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call; it is inlined into them."""
    return numba.njit(boundscheck=False, error_model="numpy")(function)


# ---- launches ----------------------------------------------------------------------------------------------------

# One launch uses all cores, because two interleaved launches would evict each other's tiles from the caches.
_launching = threading.RLock()
_pools: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="gs4d-kernels")
    return _pools[threads]


def _forget_threads() -> None:
    """Reset in a forked child, which does not have its parent's threads and cannot release a lock that they held."""
    global _launching
    _launching = threading.RLock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _take(function: Callable[..., None], args: tuple[Any, ...], ranges: Iterable[tuple[int, int]]) -> None:
    for first, last in ranges:
        function(first, last, *args)


def launch(function: Callable[..., None], count: int, grain: int, *args: Any) -> None:
    """function(first, last, *args) over ranges of at least `grain` items that cover 0..count, on `threads_now()` threads.

    Each item writes only its own output, so the result does not depend on which thread takes which range.
    """
    threads = threads_now()
    size = max(grain, -(-count // (8 * threads)))
    with _launching:
        if threads == 1 or count <= size:
            function(0, count, *args)
            return
        # next() on a C iterator is atomic: threads that finish early take more
        ranges = iter([(i, min(i + size, count)) for i in range(0, count, size)])
        others = [_pool(threads - 1).submit(_take, function, args, ranges) for _ in range(threads - 1)]
        _take(function, args, ranges)
        for other in others:
            # a thread that has not started by now has nothing left to do
            if not other.cancel():
                other.result()
