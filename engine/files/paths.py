"""Paths that people type, and paths that their files name: only what lies inside the dataset's folder is read."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..wording import printable

__all__ = [
    "check_names",
    "existing_folder",
    "explains_files",
    "file_stems",
    "inside",
    "open_regular",
    "printable",
    "read_regular",
    "relative_name",
    "require_file",
    "typed_path",
]


# characters that some file system does not take, and names that Windows keeps for devices
_FOREIGN = re.compile(r'[<>:"/\\|?*\x00-\x1f\ud800-\udfff]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# bytes of a stem; file systems take 255 with its ending
LONGEST_STEM = 120
# bytes of a name and characters of a path; most file systems take no longer ones
LONGEST_NAME, LONGEST_PATH = 255, 4000


def file_stems(names: Iterable[str]) -> list[str]:
    """File names without ending for things of any `names`, all different on every file system.

    A name that is one already stays as it is; folders in names ("images/cam01") become part of the file's name.
    """
    stems: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = _FOREIGN.sub("_", name).lstrip(".").rstrip(". ")
        stem = f"{stem}_" if _DEVICE.fullmatch(stem) else stem
        stem = stem.encode()[:LONGEST_STEM].decode(errors="ignore") or "_"
        number, unique = 2, stem
        while unique.lower() in taken:
            number, unique = number + 1, f"{stem}_{number}"
        taken.add(unique.lower())
        stems.append(unique)
    return stems


def typed_path(text: str) -> Path:
    """The path that a person typed, with a name that messages can call it by: "." becomes that folder's own path.

    Raises InputError for an empty text, the root of a disk, and what `check_names` refuses. Nothing is opened here.
    """
    if not text.strip():
        raise InputError("FIL-140", "The path is empty. Enter the path of a file or folder.")
    check_names(text)
    path = Path(text)
    if path.name in ("", ".."):
        path = Path(os.path.realpath(path))
    if not path.name:
        raise InputError(
            "FIL-142", f"'{text}' is the root of a disk. Enter the path of a file or folder below it."
        )
    return path


def check_names(text: str) -> None:
    """Raise InputError for a path that no file system takes: asking for it would be an OSError or a ValueError."""
    try:
        longest = max(len(os.fsencode(part)) for part in re.split(r"[/\\]", text))
    # half of a pair of surrogates, as JSON can hold it; bytes that are not UTF-8 can be encoded
    except UnicodeEncodeError:
        longest = LONGEST_NAME + 1
    if longest > LONGEST_NAME or len(text) > LONGEST_PATH or "\0" in text:
        raise InputError(
            "FIL-141",
            f"'{text[:60]}…' cannot be a path: it is too long, or has a character that file names cannot have. Enter another "
            "path.",
        )


@contextmanager
def explains_files() -> Generator[None, None, None]:
    """Inside, a file that cannot be used is an InputError that names it instead of an OSError."""
    try:
        yield
    except OSError as error:
        name = printable(Path(os.fsdecode(error.filename)).name) if error.filename else "A file"
        raise InputError(
            "CLI-009",
            f"{name} cannot be used: {error.strerror or error}. Check that it exists, that its disk works, and its "
            "permissions.",
        ) from error


def relative_name(path: Path, folder: Path) -> str:
    """`path` as a person finds it inside `folder`: relative, with forward slashes."""
    try:
        return printable(path.relative_to(folder).as_posix())
    except ValueError:
        return printable(path.name)


def inside(folder: Path, relative: object, source: str) -> Path:
    """The path that `relative`, found in the file `source`, names below `folder`; it need not exist.

    InputError for anything else: an absolute path, one that climbs out (with either slash, or through a symbolic
    link), an internet address, an empty or absurdly long name. Nothing is opened here.
    """
    if not isinstance(relative, str) or not relative.strip():
        raise InputError(
            "FIL-027",
            f"{source}: a file name is expected, but {printable(repr(relative))[:80]} was found. Correct "
            "the entry.",
        )
    name = printable(relative)
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in re.split(r"[/\\]", relative))
    # no file system takes a longer name, and asking for one is an OSError
    if len(relative) > 1000 or longest > 255 or "\0" in relative:
        raise InputError("FIL-028", f"{source}: '{name[:80]}…' cannot be a file name. Correct the entry.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", relative):
        raise InputError(
            "FIL-029",
            f"{source}: '{name}' is a URL, but only files inside the dataset's folder are read. Copy the "
            "file there.",
        )
    if re.match(r"[/\\]|[A-Za-z]:", relative):
        raise InputError(
            "FIL-030",
            f"{source}: '{name}' is an absolute path. Write it relative to the dataset's folder.",
        )
    parts = re.split(r"[/\\]", relative)
    if ".." in parts:
        raise InputError(
            "FIL-031",
            f"{source}: '{name}' is outside the dataset's folder and is not read. Move the file into the "
            "folder.",
        )
    path = folder.joinpath(*parts)
    if _may_lead_out(folder, parts) and not _leads_inside(folder, path):
        raise InputError(
            "FIL-032",
            f"{source}: '{name}' is a link to a place outside the dataset's folder and is not read. Copy "
            "the file into the folder.",
        )
    return path


def _may_lead_out(folder: Path, parts: list[str]) -> bool:
    """Whether a part below `folder` is a link. Following every link instead takes seconds for thousands of images."""
    if os.name == "nt":
        # a junction leads elsewhere and is not a link
        return True
    place = os.fspath(folder)
    for part in parts:
        place = os.path.join(place, part)
        if os.path.islink(place):
            return True
    return False


def _leads_inside(folder: Path, path: Path) -> bool:
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def require_file(path: Path, folder: Path, remedy: str) -> Path:
    """`path` again where it is a non-empty regular file; InputError with `remedy` otherwise."""
    name = relative_name(path, folder)
    if not _leads_inside(folder, path):
        raise InputError(
            "FIL-033",
            f"{name} is a link to a place outside {printable(folder.name)} and is not read. Copy the file "
            "into the folder.",
        )
    if not path.is_file():
        raise InputError("FIL-034", f"{name} is missing from {printable(folder.name)}; {remedy}.")
    if path.stat().st_size == 0:
        raise InputError("FIL-035", f"{name} in {printable(folder.name)} is empty (0 bytes); {remedy}.")
    return path


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, or raise OSError: a named pipe would wait for its writer, a device for anything."""

    def opener(name: str, flags: int) -> int:
        # what the name stands for may change between the look and the opening
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    mode = os.stat(path).st_mode
    refusal = OSError(errno.EINVAL, f"it is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}")
    if not stat.S_ISREG(mode):
        raise refusal
    file = open(path, "rb", opener=opener)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise refusal
    return file


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def existing_folder(folder: str | os.PathLike[str]) -> Path:
    """`folder` as an absolute path; InputError where there is none."""
    path = Path(os.path.abspath(os.path.expanduser(os.fspath(folder))))
    if not path.is_dir():
        found = "is a file, not a folder" if path.exists() else "does not exist"
        raise InputError(
            "FIL-036", f"The folder '{printable(path)}' {found}. Choose the folder that contains the dataset."
        )
    return path
