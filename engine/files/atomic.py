"""Files written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError

# temporary names: the target's first letters, the machine, the process, a number of its own
_PARTIAL = re.compile(r"\..+\.(?:([0-9a-f]{6})-(\d{1,10})-)?[0-9a-f]{8}\.partial")
# of the target in a temporary name: a file name has at most 255 bytes
LETTERS = 40
# seconds after which a temporary file of another machine is a leftover
ABANDONED = 24 * 3600
# temporary names that this process is writing, and folders that it has cleaned
_writing: set[str] = set()
_cleaned: set[str] = set()

FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG,
)  # fmt: skip


@contextmanager
def write_atomically(path: Path | str) -> Generator[Path, None, None]:
    """Give a temporary path in the same folder; when the block ends well it replaces `path`, else it is removed.

    A kill at any time leaves the old file or the new one, and a temporary file that the next run removes. Raises InputError,
    naming the file, for every OSError inside.
    """
    path = Path(path)
    with _explained(path):
        make_folder(path.parent)
        _check_name(path)
        with temporary_beside(path) as partial:
            yield partial
            # Windows flushes files only where they may be written
            with open(partial, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)


@contextmanager
def temporary_beside(path: Path) -> Generator[Path, None, None]:
    """A temporary name for a file or a folder that is to become `path`; what has it at the end is removed.

    What killed processes left in the same folder under such names is removed first.
    """
    number = f"{machine_name()}-{os.getpid()}-{secrets.token_hex(4)}"
    partial = path.with_name(f".{path.name[:LETTERS]}.{number}.partial")
    _writing.add(partial.name)
    try:
        _clean(path.parent)
        yield partial
    finally:
        with suppress(OSError):
            _remove(partial)
        _writing.discard(partial.name)


def _check_name(path: Path) -> None:
    """Raise OSError where `path` could not be replaced at the end, though a temporary file can be written."""
    # raises for a name that is too long
    with suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            # a link is replaced, but not one to a device, such as /dev/stdout
            with suppress(OSError):
                mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            # root may replace even /dev/null
            raise FileExistsError(errno.EEXIST, "it is a device or a pipe, not a file")


@contextmanager
def _explained(path: Path) -> Generator[None, None, None]:
    """Turn an OSError inside into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        name, reason = path.name, error.strerror or str(error) or type(error).__name__
        if error.errno in FULL:
            raise InputError(
                "FIL-001", f"{name} was not written: the disk is full. Free some space and run again."
            ) from error
        if error.errno == errno.EFBIG:
            raise InputError(
                "FIL-002",
                f"{name} was not written: it is larger than this disk or quota allows. Write it to "
                "another disk.",
            ) from error
        if error.errno in UNWRITABLE:
            raise InputError(
                "FIL-003", f"{name} was not written: {reason}. Choose a writable folder."
            ) from error
        if error.errno == errno.ENOENT:
            raise InputError(
                "FIL-100",
                f"{name} was not written: its folder or its temporary file was removed meanwhile. Run again.",
            ) from error
        raise InputError(
            "FIL-101",
            f"{name} was not written: {reason}. Check that the disk works and that no other program holds the file, "
            "then run again.",
        ) from error


def _clean(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder`; looks once per process."""
    place = os.path.abspath(folder)
    if place in _cleaned:
        return
    _cleaned.add(place)
    with suppress(OSError):
        for entry in os.scandir(place):
            match = _PARTIAL.fullmatch(entry.name) if entry.name.endswith(".partial") else None
            if match is not None and _is_abandoned(entry, match[1], match[2]):
                with suppress(OSError):
                    _remove(Path(entry.path))


def _is_abandoned(entry: os.DirEntry[str], machine: str | None, process: str | None) -> bool:
    """Whether nobody writes this temporary file any more. Processes of other machines cannot be seen; age decides."""
    if machine == machine_name() and process is not None and os.name != "nt":
        number = int(process)
        # in a container that was started again, the number of the killed process may be this one's
        return entry.name not in _writing if number == os.getpid() else not is_running(number)
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        # another user's
        return True
    return True


def machine_name() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it where they are missing. Raises InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "FIL-004",
            f"The folder {folder} cannot be created ({error.strerror}). Choose another location.",
        ) from error


def check_writable(path: Path | str, size: int = 1) -> None:
    """InputError, before long work starts, where a file of `size` bytes could not be written to `path` at its end."""
    path = Path(path)
    # Path.is_dir raises for a name that is too long
    if os.path.isdir(path):
        raise InputError("FIL-005", f"{path.name} is a folder. Enter the name of a file to write.")
    with suppress(_Checked), write_atomically(path) as partial:
        with open(partial, "wb") as file:
            _reserve(file.fileno(), size)
            os.fsync(file.fileno())
        raise _Checked


def check_folder_writable(folder: Path | str) -> None:
    """InputError where `folder`, which need not exist, could not be made or written to. Makes nothing."""
    there = Path(folder)
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not os.path.isdir(there):
        raise InputError(
            "FIL-102", f"{there.name} is a file, not a folder. Enter the name of a folder to write."
        )
    with _explained(Path(folder)), temporary_beside(there / Path(folder).name) as partial:
        partial.write_bytes(b" ")


def _reserve(file: int, size: int) -> None:
    """Take `size` bytes of the disk for an open file. Raises OSError where a disk, a quota or a limit has less."""
    os.write(file, b" ")
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            # some file systems cannot; the byte above was written
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV):
                raise


class _Checked(Exception):
    """Leaves `write_atomically` before it replaces anything."""
