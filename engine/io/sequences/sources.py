"""The splat files of a folder or a zip, read one after the other. Zips are never unpacked as a whole: a file at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZipInfo

from ...errors import InputError
from ...files.archive import check_archive, single_files
from ...files.folders import visible
from ...wording import printable
from ..splats import SUFFIXES
from .description import LARGEST, NAME

# folders that are looked through for the one that holds the frames
MOST_FOLDERS = 100
# files of trained folders, which are imported from their folder as a whole
TRAINED = {"cfg_args", "deformation.pth", "flame_param.npz"}


@dataclass(frozen=True)
class Files:
    """The splat files of one folder, in a folder or in a zip.

    Args:
        source: The folder or zip.
        names: Their names without folders.
        sizes: Bytes of each.
        has_description: Whether a `sequence.json` lies with them.
        entries: Those of a zip, by name; empty for a folder.
    """

    source: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    has_description: bool = False
    entries: tuple[ZipInfo, ...] = ()

    @contextmanager
    def opened(self) -> Generator[Callable[[str], Path], None, None]:
        """A function from a file's name to its path, which is good until the next call."""
        if not self.entries:
            yield lambda name: self.source / name
            return
        known = {PurePosixPath(entry.filename).name: entry for entry in self.entries}
        with tempfile.TemporaryDirectory() as folder, single_files(self.source) as copy:
            last: list[Path] = []

            def path_of(name: str) -> Path:
                while last:
                    last.pop().unlink(missing_ok=True)
                last.append(Path(folder) / name)
                copy(known[name], last[-1])
                return last[-1]

            yield path_of


def files_at(source: Path) -> Files | None:
    """The splat files of a folder, of the only folder inside it that has some, or of a zip; None where there are none.

    Raises:
        InputError: Several folders inside have some, or the zip cannot be read or holds no splat files.
    """
    if source.is_dir():
        return _in_folder(source)
    return _in_zip(source) if is_zip(source) else None


def is_zip(source: Path) -> bool:
    return source.suffix.lower() == ".zip" and source.is_file()


def _in_folder(source: Path) -> Files | None:
    found = _splats(source)
    if not found:
        inside = [folder for folder in visible(source)[:MOST_FOLDERS] if folder.is_dir()]
        inside = [(folder, files) for folder in inside if (files := _splats(folder))]
        if not inside:
            return None
        if len(inside) > 1:
            raise _several(source, inside[0][0].name, inside[1][0].name)
        source, found = inside[0]
    names = tuple(path.name for path in found)
    sizes = tuple(path.stat().st_size for path in found)
    return Files(source, names, sizes, (source / NAME).is_file())


def _splats(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def _in_zip(source: Path) -> Files:
    entries = check_archive(source)
    places = {entry.filename: PurePosixPath(entry.filename) for entry in entries}
    is_hidden = {name: any(part.startswith(".") for part in place.parts) for name, place in places.items()}
    entries = [entry for entry in entries if not is_hidden[entry.filename]]
    if any(places[entry.filename].name in TRAINED for entry in entries):
        raise InputError(
            "IO-109",
            f"{printable(source.name)} holds a trained scene or avatar, not a sequence; unpack it and choose the folder.",
        )
    splats = [entry for entry in entries if places[entry.filename].suffix.lower() in SUFFIXES]
    if not splats:
        raise InputError(
            "IO-100",
            f"{printable(source.name)} holds no splat files ({', '.join(SUFFIXES)}); zip the files of the frames.",
        )
    folders = list(dict.fromkeys(places[entry.filename].parent for entry in splats))
    if len(folders) > 1:
        first, second = (str(each) if each.parts else "its top" for each in folders[:2])
        raise _several(source, first, second)
    about = [entry for entry in entries if places[entry.filename] == folders[0] / NAME]
    about = [entry for entry in about if entry.file_size <= LARGEST]
    names = tuple(places[entry.filename].name for entry in splats)
    sizes = tuple(entry.file_size for entry in splats)
    return Files(source, names, sizes, bool(about), tuple(splats + about))


def _several(source: Path, first: str, second: str) -> InputError:
    return InputError(
        "IO-101",
        f"{printable(source.name)} holds splat files in several folders, such as {printable(first)} and {printable(second)}. "
        "Choose one clip: a folder, or a zip with one folder.",
    )
