"""What is done in a folder of outputs, kept in a file there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.jsonfile import json_text, read_json
from ..files.paths import printable
from .fingerprints import signatures
from .jobs import Job

RECORD = ".gs4d-batch.json"
# of the record; a newer program's is not read
FORMAT = 1


@dataclass(frozen=True)
class Done:
    """A finished job: the report of its verb, and how long it took."""

    report: dict[str, Any]
    seconds: float


class Record:
    """The finished and the begun jobs of a folder, by their first output (by their name, for jobs that only report).

    `check` is called before each change, and raises InputError where the folder is another batch's by now.
    """

    def __init__(self, folder: Path, check: Callable[[], None]) -> None:
        self.folder, self._path, self._check = folder, folder / RECORD, check
        self._done: dict[str, dict[str, Any]] = {}
        self._begun: dict[str, str] = {}
        if self._path.exists():
            content = read_json(self._path, RECORD)
            done, begun = content.get("done"), content.get("begun")
            is_ours = content.get("format") == FORMAT and _can_be_written(content)
            if not is_ours or not isinstance(done, dict) or not isinstance(begun, dict):
                raise InputError(
                    "CLU-041",
                    f"{RECORD} in {printable(folder.name)} is not readable by this version. Remove it, and run with --again "
                    "to make the outputs anew.",
                )
            self._done = {key: value for key, value in done.items() if isinstance(value, dict)}
            self._begun = {key: str(value) for key, value in begun.items()}

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
        """The command of a job ended without a result: what is there now may be replaced, what comes later is another's."""
        key = self._key(job)
        if self._begun.pop(key, None) is None:
            return
        there = dict(signatures(job, self.folder))
        if any(there.values()) and self._done.get(key, {}).get("outputs") != there:
            self._done[key] = {"job": job.name, "fingerprint": "", "outputs": there}
        self._write()

    def _key(self, job: Job) -> str:
        return job.outputs[0].relative_to(self.folder).as_posix() if job.outputs else f"{job.name}:"

    def _write(self) -> None:
        self._check()
        content: Mapping[str, Any] = {"format": FORMAT, "done": self._done, "begun": self._begun}
        # in one line, which is written in a fraction of the time: it is done twice for each of thousands of jobs
        with write_atomically(self._path) as partial:
            partial.write_bytes(json_text(content, allow_nan=False))


def _can_be_written(content: Mapping[str, Any]) -> bool:
    """Whether JSON that was read can be written again: numbers in it may not be finite."""
    try:
        json_text(content, allow_nan=False)
    except ValueError:
        return False
    return True
