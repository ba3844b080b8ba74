"""Who writes what: inside the folder, and each file by one job, however it is spelled."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..files.paths import check_names, printable
from .drafts import Draft
from .job_file import JobFile
from .jobs import Jobs

# begins names of the batch's own files
OWN = ".gs4d-"


def output_path(where: str, folder: Path, name: str) -> Path:
    """The path of an output, which lies in the folder. InputError, beginning with `where`, for a name that does not."""
    parts = re.split(r"[/\\]", name)
    leads_out = re.match(r"~?[/\\]|[A-Za-z][A-Za-z0-9+.-]*:", name) is not None or ".." in parts
    if not name.strip() or leads_out or name.strip("./\\ ") == "":
        raise InputError(
            "CLU-027",
            f"{where}: the output '{printable(name)}' is not a path inside the folder. Write one relative to "
            f"{printable(folder.name)}, without '..'.",
        )
    if any(part.lower().startswith(OWN) for part in parts):
        raise InputError(
            "CLU-056",
            f"{where}: the output '{printable(name)}' has a name of the batch's own files. Choose one that does not begin "
            f"with {OWN}.",
        )
    check_names(name)
    path = folder.joinpath(*parts)
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise InputError(
            "CLU-028",
            f"{where}: the output '{printable(name)}' leads out of the folder through a link. Remove the link.",
        )
    return path


def check_report(jobs: Jobs, report: Path | str | None) -> None:
    """InputError where the report would replace the job file, an input, or an output or what lies in one."""
    if report is None:
        return
    real = Path(os.path.realpath(report))
    inputs = {path for job in jobs.jobs for path in map(os.path.realpath, job.inputs)}
    outputs = {path for job in jobs.jobs for path in map(os.path.realpath, job.outputs)}
    what = "the job file" if str(real) == os.path.realpath(jobs.file) else ""
    what = what or ("read by a job" if str(real) in inputs else "")
    what = what or ("an output of a job" if any(str(p) in outputs for p in (real, *real.parents)) else "")
    if what:
        raise InputError(
            "CLU-060",
            f"{printable(real.name)} is {what}, and the report would replace it. Choose another path for the report.",
        )


class Writers:
    """The jobs by what they write.

    Attributes:
        written: All of it, with links followed.

    Raises:
        InputError: Two jobs write the same, or one writes into another's folder.
    """

    def __init__(self, file: JobFile, folder: Path, drafts: Sequence[Draft]) -> None:
        self._file, self._folder = file, folder
        self._root = os.path.realpath(folder)
        # outputs, and the folders above them up to `folder`
        self._makers: dict[str, Draft] = {}
        self._below: dict[str, list[Draft]] = {}
        self.written = frozenset(
            os.path.realpath(path) for draft in drafts for path, _ in draft.written.values()
        )
        self._check(drafts)
        for draft in drafts:
            for path in map(os.path.realpath, draft.outputs.values()):
                self._makers[path] = draft
                for place in self._above(path):
                    self._below.setdefault(place, []).append(draft)

    def owners(self, path: Path) -> tuple[list[Draft], bool]:
        """The jobs that write an input, or into it or around it; and whether nobody else does."""
        real = os.path.realpath(path)
        around = [self._makers[place] for place in (real, *self._above(real)) if place in self._makers]
        return around + self._below.get(real, []), bool(around)

    def _above(self, path: str) -> Iterator[str]:
        """The folders above a path, up to the folder of the outputs; none for a path outside."""
        if path.startswith(os.path.join(self._root, "")):
            while path != self._root:
                path = os.path.dirname(path)
                yield path

    def _check(self, drafts: Sequence[Draft]) -> None:
        found: dict[str, tuple[Draft, Path, int]] = {}
        for draft in drafts:
            for path, line in draft.written.values():
                key = _key(os.path.realpath(path))
                if key in found:
                    raise self._twice(draft, path, line, *found[key])
                found[key] = draft, path, line
        root = _key(self._root)
        for key, (draft, path, line) in found.items():
            place = key
            while place != root:
                place = os.path.dirname(place)
                if place in found:
                    other, folder, _ = found[place]
                    raise InputError(
                        "CLU-030",
                        f"{self._file.at(line)}: '{draft.name}' writes {self._shown(path)} into {self._shown(folder)}, which "
                        f"'{other.name}' writes. Choose another path.",
                    )

    def _twice(self, draft: Draft, path: Path, line: int, other: Draft, its: Path, there: int) -> InputError:
        also = (
            ""
            if path == its
            else f", which is also {self._shown(its)}: by a link, or on disks that ignore case"
        )
        remedy = (
            'Put a name of the matrix into the path, as in "{shot}.mp4"'
            if draft.entry is other.entry
            else "Choose another path"
        )
        return InputError(
            "CLU-029",
            f"{self._file.at(line)}: '{draft.name}' and '{other.name}' (line {there}) both write {self._shown(path)}{also}. "
            f"{remedy}.",
        )

    def _shown(self, path: Path) -> str:
        return printable(path.relative_to(self._folder).as_posix())


def _key(path: str) -> str:
    """The same for all spellings that some disk takes for one file."""
    return unicodedata.normalize("NFC", path).casefold()
