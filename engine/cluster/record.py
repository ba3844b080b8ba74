"""What is done in a folder of outputs, kept in a file there; and the lock that keeps a second batch out."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.atomic import is_running, machine_name, make_folder
from ..files.jsonfile import json_text, read_json, write_json
from ..files.paths import printable
from .fingerprints import signatures
from .jobs import Job

RECORD, LOCK = ".gs4d-batch.json", ".gs4d-batch.lock"
# of the record; a newer program's is not read
FORMAT = 1
# locks of this process
_held: set[str] = set()
# seconds between two signs of life in the lock, and after which one without them is left over
SIGN, ABANDONED = 5.0, 60.0


@dataclass(frozen=True)
class Done:
    """A finished job: the report of its verb, and how long it took."""

    report: dict[str, Any]
    seconds: float


class Record:
    """The finished and the begun jobs of a folder, by their first output (by their name, for jobs that only report)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / RECORD
        self._done: dict[str, dict[str, Any]] = {}
        self._begun: dict[str, str] = {}
        if self._path.exists():
            content = read_json(self._path, RECORD)
            done, begun = content.get("done"), content.get("begun")
            if content.get("format") != FORMAT or not isinstance(done, dict) or not isinstance(begun, dict):
                raise InputError(
                    "CLU-041",
                    f"{RECORD} in {printable(folder.name)} is not readable by this version. Remove it, and run with --again "
                    "to make the outputs anew.",
                )
            self._done = {str(key): value for key, value in done.items() if isinstance(value, dict)}
            self._begun = {str(key): str(value) for key, value in begun.items()}

    def finished(self, job: Job, fingerprint: str) -> Done | None:
        """The job as it ended before, if its outputs are still what it would make."""
        entry = self._done.get(self._key(job), {})
        if entry.get("fingerprint") != fingerprint or entry.get("outputs") != signatures(job, self.folder):
            return None
        report, seconds = entry.get("report"), entry.get("seconds")
        return Done(
            report if isinstance(report, dict) else {},
            float(seconds) if isinstance(seconds, int | float) else 0.0,
        )

    def check_own(self, job: Job) -> None:
        """InputError where an output of the job is there that no batch made, or that was changed since."""
        if self._key(job) in self._begun:
            # a batch was killed while it made them
            return
        known = self._done.get(self._key(job), {}).get("outputs")
        for name, found in signatures(job, self.folder).items():
            if found and (not isinstance(known, dict) or known.get(name) != found):
                how = (
                    "was changed since it was made"
                    if isinstance(known, dict) and name in known
                    else "was not made by this batch"
                )
                raise InputError(
                    "CLU-042",
                    f"{job.where}: {printable(name)}, an output of '{job.name}', is there and {how}. Move it away, "
                    "or run with --again, which makes all outputs anew.",
                )

    def begin(self, job: Job, fingerprint: str) -> None:
        """Note that outputs of the job may appear from now on."""
        self._begun[self._key(job)] = fingerprint
        self._write()

    def finish(self, job: Job, fingerprint: str, done: Done) -> None:
        self._begun.pop(self._key(job), None)
        self._done[self._key(job)] = {
            "job": job.name,
            "fingerprint": fingerprint,
            "outputs": dict(signatures(job, self.folder)),
            "report": done.report,
            "seconds": round(done.seconds, 3),
        }
        self._write()

    def give_up(self, job: Job) -> None:
        """A job failed: where it left no output, one that appears later is somebody else's."""
        if self._key(job) in self._begun and not any(signatures(job, self.folder).values()):
            del self._begun[self._key(job)]
            self._write()

    def _key(self, job: Job) -> str:
        return job.outputs[0].relative_to(self.folder).as_posix() if job.outputs else f"{job.name}:"

    def _write(self) -> None:
        content: Mapping[str, Any] = {"format": FORMAT, "done": self._done, "begun": self._begun}
        write_json(self._path, dict(content))


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Inside, no other batch works in the folder. Raises InputError where one does."""
    make_folder(folder)
    path = folder / LOCK
    _take(path)
    _held.add(os.path.realpath(path))
    ended = threading.Event()
    threading.Thread(target=_show_life, args=(path, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        _held.discard(os.path.realpath(path))
        with suppress(OSError):
            path.unlink()


def _take(path: Path) -> None:
    owner = json_text({"machine": machine_name(), "name": platform.node(), "process": os.getpid()})
    for _ in range(3):
        try:
            with open(path, "xb") as file:
                file.write(owner)
            return
        except FileExistsError:
            _check_abandoned(path)
        except OSError as error:
            raise InputError(
                "CLU-043",
                f"The folder {printable(path.parent)} cannot be written to ({error.strerror}). Choose another one.",
            ) from error
    raise InputError(
        "CLU-044", f"{LOCK} in {printable(path.parent)} cannot be replaced. Remove it if no batch is running."
    )


def _check_abandoned(path: Path) -> None:
    """Remove a lock whose batch has ended; InputError where it runs."""
    try:
        age = time.time() - path.stat().st_mtime
        owner = read_json(path, LOCK)
    except (OSError, InputError):
        # just being written, or removed meanwhile
        time.sleep(0.2)
        owner, age = {}, 0.0 if path.exists() else ABANDONED + 1
        if not path.exists():
            return
    process = owner.get("process")
    is_here = owner.get("machine") == machine_name() and isinstance(process, int) and os.name != "nt"
    if is_here and process == os.getpid():
        # in a container that was started again, a killed batch may have had this number
        is_left = os.path.realpath(path) not in _held
    elif is_here and isinstance(process, int):
        is_left = not is_running(process)
    else:
        is_left = age > ABANDONED
    if not is_left:
        raise InputError(
            "CLU-045",
            f"Another batch works in {printable(path.parent.name)} (machine "
            f"{printable(str(owner.get('name', 'unknown')))}, process "
            f"{process}). Wait for it, or stop it.",
        )
    with suppress(OSError):
        path.unlink()


def _show_life(path: Path, ended: threading.Event) -> None:
    while not ended.wait(SIGN):
        with suppress(OSError):
            os.utime(path)
