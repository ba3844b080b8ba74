"""Run the jobs of a file: in order, each as soon as what it needs is done, with retries; what is done is not done again."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.jsonfile import write_json
from ..messages import Finished, JobUpdate, Message, Started, Stream
from .endings import outcome_of
from .fingerprints import fingerprints
from .jobs import Job, Jobs
from .local import Local
from .lock import locked
from .place import Began, Closed, Ended, Event, Line, Lost, Place
from .record import Done, Record
from .writers import check_report

log = logging.getLogger("gs4d")

# seconds between two looks for signals, between two while jobs stop, and after which a stop that waits is explained
LOOK, STOPPING, NOTICED = 0.2, 0.02, 0.8
WAITING, RUNNING, DONE, UP_TO_DATE = "waiting", "running", "done", "up to date"
FAILED, NOT_RUN, STOPPED = "failed", "not run", "stopped"


@dataclass
class _State:
    """What has become of a job."""

    job: Job
    fingerprint: str
    update: JobUpdate
    tries: int = 0
    began: float = 0.0
    # start of what is counted now: when, and the first number
    stage: tuple[float, int] | None = None
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    code: str = ""


def run(
    jobs: Jobs,
    on: str = "local",
    address: str = "",
    pack: str = "",
    again: bool = False,
    report: Path | str | None = None,
) -> Stream:
    """Run jobs. Closing the stream stops them: finished outputs and checkpoints stay, and the same call goes on from there.

    Args:
        jobs: From `read_jobs`.
        on: "local", one job after the other on this machine, or "ray".
        address: Of a Ray cluster: "auto", "host:port" or "ray://host:port"; "local" starts one of its own; empty joins one of
            this machine or starts it.
        pack: Folder of the pack on the machines of the cluster; empty if it is where it is here.
        again: Make all outputs anew, and overwrite those that others made.
        report: JSON file to write at the end, also of a stop: what became of each job.

    Returns:
        Started, a JobUpdate for each change of a job, Finished(report as a dictionary).

    Raises:
        InputError: Before anything runs, for outputs that others made, a folder in which another batch works, and a cluster
            that cannot be used. Later, for one that was lost. A job that fails is in the report, and raises nothing.

    Example:
        >>> jobs = read_jobs("jobs.yaml", engine.cli.verbs())
        >>> for message in run(jobs, on="ray", address="auto"):
        ...     print(message)
    """
    check_report(jobs, report)
    with locked(jobs.folder) as check:
        record = Record(jobs.folder, check)
        batch = _Batch(jobs, record, _fingerprints(jobs, report), again)
        try:
            yield Started(len(jobs.jobs), batch.summary(), task="jobs")
            yield from batch.known()
            if batch.is_over():
                place = None
            elif on == "ray":
                from .ray_place import RayPlace

                place = RayPlace(jobs, address, pack)
            else:
                place = Local()
            if place is not None:
                with closing(place):
                    yield from batch.work(place)
            yield Finished(batch.report(on))
        finally:
            if report is not None:
                write_json(Path(report), batch.report(on))


def standing(jobs: Jobs, again: bool = False, report: Path | str | None = None) -> dict[str, str]:
    """What `run` would find, by the jobs' names: "up to date", or "waiting" for what it would run. Writes nothing.

    Raises:
        InputError: For outputs that others made.
    """
    check_report(jobs, report)
    record = Record(jobs.folder, lambda: None)
    return _Batch(jobs, record, _fingerprints(jobs, report), again).standing()


def _fingerprints(jobs: Jobs, report: Path | str | None) -> dict[str, str]:
    return fingerprints(jobs, [Path(report)] if report else [])


class _Batch:
    def __init__(self, jobs: Jobs, record: Record, prints: Mapping[str, str], again: bool) -> None:
        self._record, self._start, self._folder = record, time.monotonic(), jobs.folder
        self._states = {
            job.name: _State(job, prints[job.name], JobUpdate(job.name, job.verb, WAITING))
            for job in jobs.jobs
        }
        for state in self._states.values():
            finished = None if again else record.finished(state.job, state.fingerprint)
            if finished is not None:
                state.report, state.seconds = finished.report, finished.seconds
                state.update = replace(state.update, state=UP_TO_DATE)
            elif not again:
                record.check_own(state.job)

    def _is_done(self, name: str) -> bool:
        return self._states[name].update.state in (DONE, UP_TO_DATE)

    def summary(self) -> str:
        finished = sum(state.update.state == UP_TO_DATE for state in self._states.values())
        return f"{len(self._states)} jobs, {finished} of them up to date"

    def standing(self) -> dict[str, str]:
        return {name: state.update.state for name, state in self._states.items()}

    def known(self) -> Generator[Message, None, None]:
        yield from (state.update for state in self._states.values())

    def is_over(self) -> bool:
        return all(state.update.state not in (WAITING, RUNNING) for state in self._states.values())

    def work(self, place: Place) -> Generator[Message, None, None]:
        """Run what is left to its end. Closing stops what runs."""
        is_whole, is_news = False, True
        try:
            while True:
                # only then: there may be thousands of jobs, and many lines a second
                if is_news:
                    yield from self._start_ready(place)
                    if self.is_over():
                        break
                try:
                    event = place.events.get(timeout=LOOK)
                except queue.Empty:
                    continue
                is_news = not isinstance(event, Line)
                yield from self._take(event, place)
            is_whole = True
        finally:
            if not is_whole:
                self._stop(place)

    def _start_ready(self, place: Place) -> Generator[Message, None, None]:
        free = place.capacity - len(place.running())
        for state in self._states.values():
            # a job with a start time was handed to the place already
            if state.update.state != WAITING or state.began > 0:
                continue
            lacking = [n for n in state.job.needs if self._states[n].update.state in (FAILED, NOT_RUN)]
            if lacking:
                yield self._set(state, state=NOT_RUN, note=f"needs {lacking[0]}")
            elif free > 0 and all(map(self._is_done, state.job.needs)):
                free -= 1
                state.tries += 1
                state.began = time.monotonic()
                place.start(state.job)
                if place.capacity > 1:
                    yield self._set(state, note="waits for a machine")

    def _take(self, event: Event, place: Place) -> Generator[Message, None, None]:
        if isinstance(event, Closed):
            raise InputError(
                "CLU-046",
                f"The cluster was lost: {event.reason}. Finished outputs and checkpoints stay; run the same command "
                "again when the "
                "cluster is back.",
            )
        state = self._states[event.job]
        if isinstance(event, Began):
            if state.update.state != WAITING:
                # on a cluster, what a command says may be overtaken by its end
                return
            self._record.begin(state.job, state.fingerprint)
            state.began, state.stage = time.monotonic(), None
            yield self._set(
                state,
                state=RUNNING,
                machine=event.machine,
                note="" if state.tries < 2 else f"try {state.tries}",
            )
        elif isinstance(event, Line):
            if state.update.state == RUNNING:
                yield from self._progress(state, event.progress)
        elif isinstance(event, Lost):
            yield self._failed(state, event.reason, "", may_pass=not event.is_final)
        else:
            yield from self._end(state, event, place)

    def _progress(self, state: _State, line: Mapping[str, Any]) -> Generator[Message, None, None]:
        kind, now = line.get("event"), time.monotonic()
        done, total = _whole(line.get("done")), _whole(line.get("total"))
        if kind == "started":
            state.stage = None
            task = line.get("task")
            yield self._set(state, task=task if isinstance(task, str) else "", done=0, total=total, left=None)
        elif kind == "progress":
            if state.stage is None:
                state.stage = (now, done)
            since, first = state.stage
            counted = done - first
            left = (now - since) / counted * max(0, total - done) if counted > 0 else None
            yield self._set(state, done=done, total=total, left=left)

    def _end(self, state: _State, ended: Ended, place: Place) -> Generator[Message, None, None]:
        outcome = outcome_of(ended)
        if outcome.report is None:
            yield self._failed(state, outcome.reason, outcome.code, outcome.may_pass)
            return
        missing = self._missing(state.job, place.settling)
        if missing:
            yield self._failed(state, f"it ended well, but {missing} is not there", "", may_pass=False)
        else:
            yield self._done(state, outcome.report)

    def _done(self, state: _State, report: dict[str, Any]) -> JobUpdate:
        state.seconds, state.report = time.monotonic() - state.began, report
        self._record.finish(state.job, state.fingerprint, Done(report, state.seconds))
        return self._set(state, state=DONE, note="", left=None)

    def _missing(self, job: Job, settling: float) -> str:
        """Name of an output that is still not seen after `settling` seconds."""
        end = time.monotonic() + settling
        while missing := [path.name for path in job.outputs if not path.exists()]:
            if time.monotonic() > end:
                return missing[0]
            time.sleep(LOOK)
        return ""

    def _failed(self, state: _State, reason: str, code: str, may_pass: bool) -> JobUpdate:
        state.seconds = time.monotonic() - state.began
        if may_pass and state.tries <= state.job.retries:
            state.began = 0.0
            return self._set(
                state, state=WAITING, note=f"again: {reason}", machine="", done=0, total=0, left=None
            )
        state.code = code
        self._record.give_up(state.job)
        return self._set(state, state=FAILED, note=reason, left=None)

    def _set(self, of: _State, **changes: Any) -> JobUpdate:
        of.update = replace(of.update, **changes)
        return of.update

    def _stop(self, place: Place) -> None:
        """Stop what runs. A second signal while it is waited for kills it."""
        for state in self._states.values():
            if state.update.state == RUNNING:
                self._set(state, state=STOPPED, left=None)
        place.stop()
        start, is_explained = time.monotonic(), False
        try:
            while left := place.running():
                if not is_explained and time.monotonic() - start > NOTICED:
                    is_explained = True
                    log.warning(
                        "stopping when %s has saved its work; the same signal again stops at once",
                        ", ".join(left[:3]),
                    )
                time.sleep(STOPPING)
        except BaseException:
            place.kill()
            raise
        self._take_last(place)

    def _take_last(self, place: Place) -> None:
        """Note how stopped commands ended: some were done when the stop came, and need not be done again."""
        while True:
            try:
                event = place.events.get_nowait()
            except queue.Empty:
                return
            if isinstance(event, Ended):
                state, outcome = self._states[event.job], outcome_of(event)
                if outcome.report is not None and not self._missing(state.job, 0.0):
                    self._done(state, outcome.report)
                else:
                    self._record.give_up(state.job)

    def report(self, on: str) -> dict[str, Any]:
        states = list(self._states.values())
        return {
            "jobs": [self._entry(state) for state in states],
            **{
                name.replace(" ", "_"): sum(state.update.state == name for state in states)
                for name in (DONE, UP_TO_DATE, FAILED, NOT_RUN, STOPPED, WAITING)
            },
            "on": on,
            "folder": str(self._folder),
            "seconds": round(time.monotonic() - self._start, 3),
        }

    def _entry(self, state: _State) -> dict[str, Any]:
        update, job = state.update, state.job
        return {
            "name": job.name,
            "job": job.entry,
            "values": job.values,
            "verb": job.verb,
            "state": update.state,
            "machine": update.machine,
            "tries": state.tries,
            "seconds": round(state.seconds, 3),
            "outputs": [path.relative_to(self._folder).as_posix() for path in job.outputs],
            "fingerprint": state.fingerprint,
            "note": update.note,
            "code": state.code,
            "report": state.report,
        }


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0
