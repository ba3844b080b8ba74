"""The package usd-core: its modules, and its errors as one sentence."""

from __future__ import annotations

import importlib
import re
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ... import backends
from ...errors import InputError
from ...files.paths import printable


class Library(NamedTuple):
    """The modules of usd-core that are used here; it has no type stubs."""

    Ar: Any
    Gf: Any
    Sdf: Any
    Tf: Any
    Usd: Any
    UsdGeom: Any
    UsdUtils: Any
    UsdVol: Any
    Vt: Any


def library() -> Library:
    """The modules. Raises InputError where usd-core is missing or too old."""
    backends.require_usd()
    return Library(*(importlib.import_module(f"pxr.{name}") for name in Library._fields))


@contextmanager
def unreadable(name: str) -> Generator[None, None, None]:
    """Inside, errors of usd-core become an InputError that names the file `name`."""
    try:
        yield
    except InputError:
        raise
    # of damaged files also what Python's side of usd-core does not expect
    except (RuntimeError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            "USD-001",
            f"{printable(name)} cannot be read as USD: it is damaged, or not a USD file ({reason_of(error)}). Export it again.",
        ) from error


@contextmanager
def nameable(folder: Path) -> Generator[Path, None, None]:
    """A path to the same folder that usd-core can take, which knows names in UTF-8 alone."""
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as other:
            link = Path(other) / "folder"
            link.symlink_to(folder.absolute(), target_is_directory=True)
            yield link
    else:
        yield folder


def reason_of(error: BaseException) -> str:
    """The first of usd-core's messages in an error, in one line, without the places of its source and of files."""
    try:
        message = str(error)
    # usd-core quotes the file's bytes
    except UnicodeDecodeError:
        return "it has names that are not text"
    found = re.search(r": '(.*)'\s*$", message, re.MULTILINE)
    text = " ".join((found[1] if found else message).split())
    # usd-core writes files as <…>, '…' or @…@
    text = re.sub(r"[<@']?(?:/[^\s/<>@']+)+/([^\s/<>@']+)[>@']?", r"\1", text)
    return printable(text[:160])
