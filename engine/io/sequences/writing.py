"""Files written one after the other, into a folder or into a zip file."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from ...errors import InputError
from ...files.atomic import temporary_beside, write_atomically
from ...files.folders import visible

# formats of splats that a zip makes smaller; the others are compressed themselves
LOOSE = (".ply", ".splat", ".json")

# writes a file of a name by a function that is given the path, and returns what was written: that file, or the zip
Put = Callable[[str, Callable[[Path], object]], Path]


@contextmanager
def into_folder(target: Path) -> Generator[Put, None, None]:
    """Files in a folder, each of them whole."""

    def put(name: str, write: Callable[[Path], object]) -> Path:
        write(target / name)
        return target / name

    yield put


@contextmanager
def into_zip(target: Path) -> Generator[Put, None, None]:
    """Files in a zip file that is there only when all of them are. One at a time lies on the disk unpacked.

    The same files give the same bytes: entries have no date.
    """
    with (
        write_atomically(target) as partial,
        temporary_beside(target.with_name(f"{target.name}.frame")) as folder,
        zipfile.ZipFile(partial, "w", compresslevel=1) as archive,
    ):
        folder.mkdir()

        def put(name: str, write: Callable[[Path], object]) -> Path:
            path = folder / name
            write(path)
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED if path.suffix in LOOSE else zipfile.ZIP_STORED
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with open(path, "rb") as source, archive.open(entry, "w") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            path.unlink()
            return target

        yield put


def check_no_others(target: Path, names: set[str], endings: tuple[str, ...]) -> None:
    """Raise InputError where a folder holds splat files besides those that are to be written: they would be frames too."""
    others = [p.name for p in visible(target) if p.suffix.lower() in endings and p.name not in names]
    if others:
        raise InputError(
            "IO-107",
            f"{target.name} already holds {others[0]}, which would become part of the sequence; choose a new folder or empty it.",
        )
