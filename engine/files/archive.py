"""Zip files unpacked into a folder: bounded, whole or not at all, and nothing outside the folder; or read file by file."""

from __future__ import annotations

import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .atomic import make_folder, temporary_beside
from .paths import check_names

MOST_FILES = 20_000
# what an archive of images, videos or splats can become
LARGEST_RATIO = 200
# bytes that stay free on the disk
RESERVE = 1 << 30
JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}
# by the numbers of the zip format; the rest is named by its number
METHODS = {
    1: "Shrink", 6: "Implode", 9: "Deflate64", 20: "Zstandard", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd"
}  # fmt: skip
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# the method that stands for AES, and the flags of a password, of strong encryption and of an encrypted list of files
AES = 99
ENCRYPTED = 1 | 1 << 6 | 1 << 13
# first bytes of other archives that are renamed to .zip
OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z",
    b"Rar!\x1a\x07": "a RAR",
    b"\x1f\x8b": "a gzip",
    b"\xfd7zXZ\0": "an XZ",
}
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def check_archive(path: Path) -> list[zipfile.ZipInfo]:
    """The files of a zip that may be unpacked, without what systems add.

    Raises:
        InputError: It is damaged or cut off, encrypted, of several parts, compressed by a method that cannot be read, has too
            many or too large files, or a name that leads out of it or occurs twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    if _is_part(path):
        raise _part(path)
    # is_dir raises for an empty name
    files = [
        e for e in entries if not e.filename.endswith("/") and not JUNK & set(PurePosixPath(e.filename).parts)
    ]
    if len(files) > MOST_FILES:
        raise InputError(
            "FIL-144",
            f"{path.name} has {len(files):,} files; at most {MOST_FILES:,} are unpacked. Unpack it yourself into ComfyUI's input "
            "folder.",
        )
    for entry in files:
        _check_name(entry, path)
        _check_method(entry, path)
    _check_places(files, path)
    size = sum(entry.file_size for entry in files)
    if size > LARGEST_RATIO * max(path.stat().st_size, 1 << 16):
        raise InputError(
            "FIL-145",
            f"{path.name} would grow to {size / 1e9:,.1f} GB, which no images, videos or splats do; zip them again.",
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


@contextmanager
def single_files(path: Path) -> Generator[Callable[[zipfile.ZipInfo, Path], None], None, None]:
    """A function that copies one file of a checked zip to a path, which is replaced.

    Raises:
        InputError: The zip is damaged, at the latest where the damaged file is copied.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise _unreadable(path, error) from error

    def copy(entry: zipfile.ZipInfo, target: Path) -> None:
        try:
            # ends where the entry's size ends, and raises where its checksum differs
            with archive.open(entry) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except (*DAMAGED, OSError) as error:
            if not _is_damage(error):
                raise
            raise _unreadable(path, error) from error

    with archive:
        yield copy


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
    # names that differ, but not on this disk: by upper and lower case
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _twice(path, Path(str(error.filename)).name) from error
    except (*DAMAGED, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not _is_damage(error):
            raise
        raise _unreadable(path, error) from error


def _is_damage(error: Exception) -> bool:
    """Not a full disk, say; a list of files may lead before the start of the zip."""
    return not isinstance(error, OSError) or error.errno == errno.EINVAL


def _check_method(entry: zipfile.ZipInfo, path: Path) -> None:
    """Raise InputError for a file that is encrypted, or compressed by a method that cannot be read."""
    if entry.flag_bits & ENCRYPTED or entry.compress_type == AES:
        raise _encrypted(path)
    if entry.compress_type not in READABLE:
        method = METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        raise _unsupported(f"{entry.filename} in {path.name} is compressed with {method}")


def _check_places(files: list[zipfile.ZipInfo], path: Path) -> None:
    """Raise InputError where two files have one name, or a file the name of a folder."""
    counts = Counter(PurePosixPath(entry.filename) for entry in files)
    folders = {above for name in counts for above in name.parents}
    for name, count in counts.items():
        if count > 1 or name in folders:
            raise _twice(path, str(name))


def _twice(path: Path, name: str) -> InputError:
    return InputError(
        "FIL-152",
        f"{path.name} contains '{name}' twice, as files or a folder; rename one and zip them again.",
    )


def _encrypted(path: Path) -> InputError:
    return InputError("FIL-148", f"{path.name} is encrypted; zip the files without a password.")


def _check_name(entry: zipfile.ZipInfo, path: Path) -> None:
    """Raise InputError unless it is the relative name of a regular file."""
    name = entry.filename
    check_names(name)
    parts = PurePosixPath(name.replace("\\", "/")).parts
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    leads_out = name.startswith(("/", "\\")) or ".." in parts or any(":" in part for part in parts)
    if leads_out or is_link or not parts or "\\" in name:
        raise InputError(
            "FIL-147",
            f"{path.name} contains '{name}', a name that leads out of it or a link; zip the files themselves.",
        )


def _unreadable(path: Path, error: Exception) -> InputError:
    """What is wrong with a file that zipfile does not read, by its first and last bytes."""
    with open(path, "rb") as file:
        head = file.read(8)
    for mark, kind in OTHERS.items():
        if head.startswith(mark):
            return InputError(
                "FIL-149", f"{path.name} is {kind} archive, not a zip; make a .zip of the files."
            )
    if head.startswith(b"PK\7\x08") or _is_part(path):
        return _part(path)
    if head.startswith(b"PK\3\4") and len(head) == 8 and struct.unpack_from("<H", head, 6)[0] & ENCRYPTED:
        return _encrypted(path)
    # what zipfile knows of and cannot read, such as a later version of the format
    if isinstance(error, RuntimeError):
        return _unsupported(f"{path.name} uses a feature of the format ({error})")
    return InputError(
        "FIL-143", f"{path.name} is not a complete zip file ({error}); upload or copy it again."
    )


def _unsupported(found: str) -> InputError:
    return InputError(
        "FIL-151", f"{found}, which cannot be read; zip the files with Deflate or without compression."
    )


def _is_part(path: Path) -> bool:
    """Whether a file's end says that it is not the first disk of its zip."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    # Zip64 has 65535 here, and its own number elsewhere, which zipfile checks
    return 0 <= end <= len(tail) - 22 and struct.unpack_from("<H", tail, end + 4)[0] not in (0, 0xFFFF)


def _part(path: Path) -> InputError:
    return InputError(
        "FIL-150", f"{path.name} is one part of a zip in several parts; zip the files into one file."
    )
