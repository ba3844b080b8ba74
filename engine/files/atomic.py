"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError


@contextmanager
def write_atomically(path: Path | str) -> Generator[Path, None, None]:
    """Give a temporary path in the same folder; when the block ends well it replaces `path`, else it is removed.

    A kill at any time leaves the old file or the new one. Raises InputError, naming the file, where the disk is full or
    the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        make_folder(path.parent)
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                "FIL-001", f"{path.name} was not written: the disk is full. Free some space and run again."
            ) from error
        if error.errno == errno.EFBIG:
            raise InputError(
                "FIL-002",
                f"{path.name} was not written: it is larger than this disk or quota allows. Write it to "
                "another disk.",
            ) from error
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.EISDIR,
            errno.ENOTDIR,
            errno.EEXIST,
            errno.ENAMETOOLONG,
        ):
            raise InputError(
                "FIL-003",
                f"{path.name} was not written: {error.strerror}. Choose a writable folder.",
            ) from error
        raise
    finally:
        with suppress(OSError):
            partial.unlink()


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it where they are missing. Raises InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "FIL-004",
            f"The folder {folder} cannot be created ({error.strerror}). Choose another location.",
        ) from error


def check_writable(path: Path | str) -> None:
    """InputError, before long work starts, where `path` could not be written at its end."""
    path = Path(path)
    if path.is_dir():
        raise InputError("FIL-005", f"{path.name} is a folder. Enter the name of a file to write.")
    with suppress(_Checked), write_atomically(path) as partial:
        partial.write_bytes(b" ")
        raise _Checked


class _Checked(Exception):
    """Leaves `write_atomically` before it replaces anything."""
