"""What a job is made of, and what its outputs were when it ended, as short texts that change with either."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

from .. import __version__
from ..files.jsonfile import json_text
from .jobs import Job, Jobs

# files that name others in their folder
NAMES_OTHERS = (".gltf", ".usd", ".usda", ".usdc")


def fingerprints(jobs: Jobs, others: Iterable[Path] = ()) -> dict[str, str]:
    """For each job's name, a text that is the same as long as the job would make the same outputs.

    It has the verb with its flags as they are written, the version of the engine, the fingerprints of the jobs whose
    outputs are read, and name, size and time of change of the other files. What the batch itself writes is not among them,
    nor are its job file and `others`.
    """
    without = {os.path.realpath(path) for path in (jobs.folder, jobs.file, *others)} | jobs.written
    found: dict[str, str] = {}
    for job in jobs.jobs:
        content = {
            "verb": job.verb,
            "settings": {key: list(values) for key, values in sorted(job.settings.items())},
            "engine": __version__,
            "jobs": sorted(found[name] for name in job.feeds),
            "files": {_name(path, jobs.file.parent): _input(path, without) for path in job.inputs},
        }
        found[job.name] = hashlib.sha256(json_text(content, sort_keys=True)).hexdigest()
    return found


def _input(path: Path, without: Set[str]) -> str:
    if path.suffix.lower() in NAMES_OTHERS:
        return f"{signature(path)} {signature(path.parent, without)}"
    return signature(path, without)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def signature(path: Path, without: Set[str] = frozenset()) -> str:
    """Size and time of change of a file, or of all files in a folder, with links followed; empty where there is nothing.

    Hidden files in a folder do not count, nor does what lies at paths in `without`. A folder with nothing else is as none.
    """
    if not os.path.isdir(path):
        return _state(path)
    digest, is_empty = hashlib.sha256(), True
    for name, state in _contents(path, without):
        digest.update(os.fsencode(name) + f"|{state}\n".encode())
        is_empty = False
    return "" if is_empty and without else f"folder {digest.hexdigest()}"


def _state(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _contents(folder: Path, without: Set[str]) -> Iterator[tuple[str, str]]:
    """Names and states of the files below a folder, relative to it, in an order of their own; also of links to folders."""
    start = os.path.realpath(folder)
    # a link to what is above would lead to all of the disk
    seen = {start, *map(str, Path(start).parents)}
    waiting = [(os.fspath(folder), start, "")]
    while waiting:
        place, real, before = waiting.pop()
        below: list[tuple[str, str, str]] = []
        for entry in _listed(place):
            name, is_link = entry.name, entry.is_symlink()
            target = os.path.realpath(entry.path) if is_link else os.path.join(real, name)
            if name.startswith(".") or target in without:
                continue
            # an entry raises for links that go round in circles
            is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()
            if not is_folder:
                yield f"{before}{name}", _state(Path(entry.path))
                continue
            if is_link:
                yield f"{before}{name}", "a link"
            if target not in seen:
                seen.add(target)
                below.append((entry.path, target, f"{before}{name}/"))
        waiting += reversed(below)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []


def signatures(job: Job, folder: Path) -> Mapping[str, str]:
    """The signatures of a job's outputs, by their paths in the folder."""
    return {path.relative_to(folder).as_posix(): signature(path) for path in job.outputs}
