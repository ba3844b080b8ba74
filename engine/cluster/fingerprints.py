"""What a job is made of, and what its outputs were when it ended, as short texts that change with either."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import __version__
from ..files.jsonfile import json_text
from .jobs import Job, Jobs


def fingerprints(jobs: Jobs) -> dict[str, str]:
    """For each job's name, a text that is the same as long as the job would make the same outputs.

    It has the verb with its flags as they are written, the version of the engine, the fingerprints of the jobs whose
    outputs are read, and name, size and time of change of the other files.
    """
    found: dict[str, str] = {}
    for job in jobs.jobs:
        content = {
            "verb": job.verb,
            "settings": {key: list(values) for key, values in sorted(job.settings.items())},
            "engine": __version__,
            "jobs": sorted(found[name] for name in job.feeds),
            "files": {_name(path, jobs.file.parent): signature(path) for path in job.inputs},
        }
        found[job.name] = hashlib.sha256(json_text(content, sort_keys=True)).hexdigest()
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def signature(path: Path) -> str:
    """Size and time of change of a file, or of all files in a folder; empty where there is nothing. Hidden files in a folder
    do not count."""
    if not os.path.isdir(path):
        return _state(path)
    digest = hashlib.sha256()
    for name in _files(path):
        digest.update(os.fsencode(name) + f"|{_state(path / name)}\n".encode())
    return f"folder {digest.hexdigest()}"


def _state(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _files(folder: Path) -> Iterator[str]:
    """Names of the files below a folder, relative to it, in an order of their own."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(n for n in names if not n.startswith(".")):
            yield os.path.relpath(os.path.join(top, name), folder)


def signatures(job: Job, folder: Path) -> Mapping[str, str]:
    """The signatures of a job's outputs, by their paths in the folder."""
    return {path.relative_to(folder).as_posix(): signature(path) for path in job.outputs}
