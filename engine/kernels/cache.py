"""The folder of compiled kernels: where it lies, who compiles what, and which old ones are removed.

numba's own cache lets two processes that compile one function for different types write to one file, so a lock file per kernel
lets one process at a time compile it. The others then load what it made.
"""
# pyright: basic, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numba

log = logging.getLogger("gs4d")

_HERE = Path(__file__).parent
# folders with kernels
SOURCES = (_HERE, _HERE.parent / "render" / "numba")
# files without kernels; they only call them
CALLERS = ("__init__.py", "cache.py", "plan.py", "rasterizer.py", "threads.py")
# seconds to wait for a process that compiles a kernel; each takes a few
LONGEST_WAIT = 60.0
SECONDS_BETWEEN_TRIES = 0.02
# other folders are removed once they were not used for so many days, and more than so many of them after one day
KEPT_DAYS, KEPT_FOLDERS = 30, 8
# what numba and this package write
_OURS = re.compile(r".+\.(nbi|nbc|ready|lock)(\.tmp\.[0-9a-f]+)?")
_HASH = re.compile(r"[0-9a-f]{16}")
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


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
    sources = hashlib.sha256(f"{numba.__version__} {__package__}".encode())
    for path in (path for folder in SOURCES for path in sorted(folder.glob("*.py"))):
        if path.name not in CALLERS:
            sources.update(path.read_bytes())
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    candidates = [_HERE / "__pycache__" / "numba", Path(tempfile.gettempdir()) / f"gs4d-numba-{user}"]
    if numba.config.CACHE_DIR:
        candidates.insert(0, Path(numba.config.CACHE_DIR))
    for parent in candidates:
        folder = parent / sources.hexdigest()[:16]
        is_new = not folder.exists()
        if _is_private_and_writable(parent) and _is_private_and_writable(folder):
            with suppress(OSError):
                # its date says when it was last used
                os.utime(folder)
            if is_new:
                remove_old(candidates, folder)
            return folder
    log.warning(
        "Compiled kernels cannot be cached (no writable folder); they are compiled again in every process."
    )
    return None


def remove_old(parents: Iterable[Path], current: Path) -> None:
    """Remove folders of kernels that other versions compiled, where nobody has used them for long.

    Where a process still uses one, it has loaded its kernels, and compiles what it needs later.

    Args:
        parents: Folders that hold folders of compiled kernels, and maybe other things.
        current: The folder that stays in any case.
    """
    found: list[tuple[float, Path]] = []
    for parent in parents:
        with suppress(OSError):
            for entry in os.scandir(parent):
                is_ours = _HASH.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                if is_ours and Path(entry.path) != current and _holds_kernels(Path(entry.path)):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)))
    now = time.time()
    for i, (used, folder) in enumerate(sorted(found, reverse=True)):
        if now - used > 86400 * (KEPT_DAYS if i < KEPT_FOLDERS else 1):
            shutil.rmtree(folder, ignore_errors=True)


def _holds_kernels(folder: Path) -> bool:
    """Whether nothing but compiled kernels lies in a folder of this user."""
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return False
    names = [name for _, _, names in os.walk(folder) for name in names]
    return all(_OURS.fullmatch(name) for name in names)


@contextmanager
def compiling_alone(name: str) -> Generator[None]:
    """Inside, no other process compiles the kernel `name`: wait for it before.

    Without a folder, where files cannot be locked, and after `LONGEST_WAIT`, this does nothing.
    """
    folder = cache_folder()
    file: IO[bytes] | None = None
    with suppress(OSError):
        file = open(folder / f"{name}.lock", "ab") if folder else None
    if file is None:
        yield
        return
    # closing the file releases the lock, and so does the end of the process
    with file:
        _wait_for(file)
        yield


def _wait_for(file: IO[bytes]) -> None:
    """Lock a file, where that is possible."""
    begun = time.monotonic()
    while time.monotonic() - begun < LONGEST_WAIT:
        try:
            _lock(file)
            return
        except OSError as error:
            if error.errno not in _BUSY:
                return
            time.sleep(SECONDS_BETWEEN_TRIES)


def _lock(file: IO[bytes]) -> None:
    """Raises OSError with a number in `_BUSY` while another process has it locked."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
