"""How the CPU kernels are compiled, where the machine code is kept, and how a launch uses the machine's cores.

numba's own parallel loops are not used: they multiply the compile time, and the threading layer that pip installs
everywhere (workqueue) ends the process when two threads enter it. Kernels release the GIL and work on a range of items;
a pool of Python threads takes ranges until none is left.
"""
# pyright: basic, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba

from ..threads import threads_now

log = logging.getLogger("gs4d")

_HERE = Path(__file__).parent
# they only call kernels
CALLERS = ("__init__.py", "plan.py", "rasterizer.py")


def _is_private_and_writable(folder: Path) -> bool:
    """Whether we can make files in `folder` (created if need be) and own it: a cache holds code that will be run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept: $NUMBA_CACHE_DIR, else beside these files, else the temporary folder; or None.

    The last part of the path changes with the sources of all kernels, as numba itself looks at one file's date only.
    """
    sources = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_HERE.glob("*.py")):
        if path.name not in CALLERS:
            sources.update(path.read_bytes())
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    candidates = [_HERE / "__pycache__" / "numba", Path(tempfile.gettempdir()) / f"gs4d-numba-{user}"]
    if numba.config.CACHE_DIR:
        candidates.insert(0, Path(numba.config.CACHE_DIR))
    for parent in candidates:
        if _is_private_and_writable(parent) and _is_private_and_writable(parent / sources.hexdigest()[:16]):
            return parent / sources.hexdigest()[:16]
    log.warning("no writable folder for compiled kernels: they are compiled again in every process")
    return None


def kernel(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, for each element type that is used, and keep the machine code in `cache_folder()`."""
    # Undocumented: numba reads `config.CACHE_DIR` while `njit(cache=True)` is applied. It offers no argument for the folder,
    # and its own choice fails where the package's folder is read-only. To be replaced by setting NUMBA_CACHE_DIR before
    # numba is imported, which would move the other packs' kernels too. See tests/engine/test_numba_api.py.
    folder = cache_folder()
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(folder or "")
        return numba.njit(nogil=True, boundscheck=False, error_model="numpy", cache=folder is not None)(
            function
        )
    finally:
        numba.config.CACHE_DIR = before


def part(function: Callable[..., Any]) -> Any:
    """A function that only kernels call: it becomes a piece of each of them."""
    return numba.njit(boundscheck=False, error_model="numpy")(function)


# ---- launches ----------------------------------------------------------------------------------------------------

# One launch owns all cores: two that interleave would only push each other's tiles out of the caches.
_launching = threading.RLock()
_pools: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="gs4d-raster")
    return _pools[threads]


def _forget_threads() -> None:
    """A forked child has none of its parent's threads, and nobody to release a lock that one of them held."""
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

    Each item writes only what is its own, so the result does not depend on who takes which range.
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
            if not other.cancel():  # a thread that a busy machine never woke has nothing left to do
                other.result()
