"""Compile the CPU kernels, cache their machine code, and launch them on several cores.

numba's own parallel loops are not used: they multiply the compile time, and the threading layer that pip installs
everywhere (workqueue) aborts the process when two threads enter it. Kernels release the GIL and process a range of items;
a pool of Python threads takes ranges until all are done.
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

from .threads import threads_now

log = logging.getLogger("gs4d")

_HERE = Path(__file__).parent
# folders with kernels
SOURCES = (_HERE, _HERE.parent / "render" / "numba")
# files without kernels; they only call them
CALLERS = ("__init__.py", "plan.py", "rasterizer.py", "threads.py")


def _is_private_and_writable(folder: Path) -> bool:
    """Whether `folder` (created if needed) is writable and owned by this user, because cached code will be run."""
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
    """Folder of compiled kernels: $NUMBA_CACHE_DIR, else next to these files, else the temporary folder; or None.

    The last part of the path is a hash of the sources of all kernels, because numba checks only the date of one file, and of
    the package's name, because compiled signatures name it: ComfyUI loads the engine under another one than the command line.
    """
    sources = hashlib.sha256(f"{numba.__version__} {__name__}".encode())
    for path in (path for folder in SOURCES for path in sorted(folder.glob("*.py"))):
        if path.name not in CALLERS:
            sources.update(path.read_bytes())
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    candidates = [_HERE / "__pycache__" / "numba", Path(tempfile.gettempdir()) / f"gs4d-numba-{user}"]
    if numba.config.CACHE_DIR:
        candidates.insert(0, Path(numba.config.CACHE_DIR))
    for parent in candidates:
        if _is_private_and_writable(parent) and _is_private_and_writable(parent / sources.hexdigest()[:16]):
            return parent / sources.hexdigest()[:16]
    log.warning(
        "Compiled kernels cannot be cached (no writable folder); they are compiled again in every process."
    )
    return None


def kernel(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, for each element type that is used, and cache the machine code in `cache_folder()`."""
    # Undocumented: numba reads `config.CACHE_DIR` while `njit(cache=True)` is applied. It does not have an argument for the
    # folder, and its default fails if the package's folder is read-only. The alternative, setting NUMBA_CACHE_DIR before
    # numba is imported, would move the kernels of other packs too. See tests/engine/test_numba_api.py.
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
