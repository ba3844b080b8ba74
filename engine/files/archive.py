"""Zip files unpacked into a folder: bounded, whole or not at all, and nothing outside the folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .atomic import make_folder, temporary_beside

MOST_FILES = 20_000
# what an archive of images and videos can become
LARGEST_RATIO = 200
# bytes that stay free on the disk
RESERVE = 1 << 30
JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def check_archive(path: Path) -> list[zipfile.ZipInfo]:
    """The files of a zip that may be unpacked, without what systems add.

    Raises:
        InputError: It is damaged or cut off, encrypted, has too many or too large files, or a name that leads out of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGED as error:
        raise _incomplete(path, error) from error
    files = [e for e in entries if not e.is_dir() and not JUNK & set(PurePosixPath(e.filename).parts)]
    if len(files) > MOST_FILES:
        raise InputError(
            "FIL-144",
            f"{path.name} has {len(files):,} files; at most {MOST_FILES:,} are unpacked. Unpack it yourself into ComfyUI's input "
            "folder.",
        )
    for entry in files:
        _check_name(entry, path)
    size = sum(entry.file_size for entry in files)
    if size > LARGEST_RATIO * max(path.stat().st_size, 1 << 16):
        raise InputError(
            "FIL-145",
            f"{path.name} would grow to {size / 1e9:,.1f} GB, which no images or videos do; zip them again.",
        )
    return files


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a zip into the new `folder`, if it is not there yet.

    Returns:
        The folder, or the only one inside it.

    Raises:
        InputError: As `check_archive`, or there is no room on the disk.
    """
    if not folder.is_dir():
        files = check_archive(path)
        make_folder(folder.parent)
        size, free = sum(entry.file_size for entry in files), shutil.disk_usage(folder.parent).free
        if size + RESERVE > free:
            raise InputError(
                "FIL-146",
                f"{path.name} needs {size / 1e9:.1f} GB on the disk of {folder.parent.name}, where {free / 1e9:.1f} GB are free; "
                "free some.",
            )
        with temporary_beside(folder) as partial:
            _extract(path, files, partial)
            partial.replace(folder)
    inside = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _extract(path: Path, files: list[zipfile.ZipInfo], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in files:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                # ends where the entry's size ends, and raises where its checksum differs
                with archive.open(entry) as source, open(target, "xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (*DAMAGED, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _incomplete(path, error) from error


def _check_name(entry: zipfile.ZipInfo, path: Path) -> None:
    """A relative name of a regular, readable file. Raises InputError."""
    name = entry.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    leads_out = name.startswith(("/", "\\")) or ".." in parts or any(":" in part for part in parts)
    if leads_out or is_link or not parts or "\\" in name:
        raise InputError(
            "FIL-147",
            f"{path.name} contains '{name}', a name that leads out of it or a link; zip the files themselves.",
        )
    if entry.flag_bits & 1:
        raise InputError("FIL-148", f"{path.name} is encrypted; zip the files without a password.")


def _incomplete(path: Path, error: Exception) -> InputError:
    return InputError(
        "FIL-143", f"{path.name} is not a complete zip file ({error}); upload or copy it again."
    )
