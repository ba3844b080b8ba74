"""The jobs of a batch on the terminal: a table that is redrawn, or a line for each change where there is no terminal."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import unicodedata
from collections import Counter
from contextlib import suppress

from ..messages import JobUpdate
from ..wording import brief
from .console import silence, tell

# seconds between two drawings, and between two lines about the progress of one job
DRAWN, TOLD = 0.2, 30.0
# states in the order in which the table has its rows, when not all fit
URGENT = ("running", "failed", "stopped", "waiting", "not run", "done", "up to date")
# characters of a job's name
NAME_WIDTH = 34


class JobTable:
    """Shows jobs; `update` is given each change, `close` draws the last state."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobUpdate] = {}
        self._lines, self._drawn = 0, 0.0
        self._told: dict[str, float] = {}
        self._redraws = sys.stderr.isatty()
        # a signal may come while the table is drawn, and then it is closed
        self._drawing = threading.RLock()
        self._late: threading.Timer | None = None

    def update(self, update: JobUpdate) -> None:
        before = self._jobs.get(update.name)
        if self._redraws:
            with self._drawing:
                self._jobs[update.name] = update
                if time.monotonic() - self._drawn > DRAWN:
                    self._draw()
                elif self._late is None:
                    # the next change may be minutes away
                    self._late = threading.Timer(DRAWN, self._draw_late)
                    self._late.daemon = True
                    self._late.start()
            return
        self._jobs[update.name] = update
        if self._is_news(before, update):
            self._told[update.name] = time.monotonic()
            tell(f"{update.name}: {described(update)}", sys.stderr)

    def close(self) -> None:
        with self._drawing:
            if self._late is not None:
                self._late.cancel()
            if self._redraws:
                self._redraws = False
                self._draw()

    def _draw_late(self) -> None:
        with self._drawing:
            self._late = None
            if self._redraws:
                self._draw()

    def _is_news(self, before: JobUpdate | None, update: JobUpdate) -> bool:
        if before is None:
            # what waits is known from the file
            return update.state != "waiting"
        is_another = (before.state, before.note, before.machine) != (
            update.state,
            update.note,
            update.machine,
        )
        is_due = update.total > 0 and time.monotonic() - self._told.get(update.name, 0.0) > TOLD
        return is_another or is_due

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        width, height = _terminal()
        rows = self._rows(max(3, height - 3))
        text = "".join(f"\x1b[2K{fitted(row, width - 1)}\n" for row in rows)
        up = f"\x1b[{self._lines}A" if self._lines else ""
        # rows are printable: only the moves of the cursor are not, which `tell` would escape
        try:
            sys.stderr.write(f"{up}\r{text}\x1b[J")
            sys.stderr.flush()
        except OSError:
            # the terminal was closed; the jobs do not need it
            silence(sys.stderr)
            self._redraws = False
        self._lines = len(rows)

    def _rows(self, most: int) -> list[str]:
        jobs = list(self._jobs.values())
        if len(jobs) > most:
            jobs = sorted(jobs, key=lambda job: URGENT.index(job.state))[:most]
        counts = Counter(job.state for job in self._jobs.values())
        numbers = ", ".join(f"{counts[state]} {state}" for state in URGENT if counts[state])
        rows = [
            f"{brief(job.name, NAME_WIDTH):<{NAME_WIDTH}} {job.verb:<14} {described(job)}" for job in jobs
        ]
        noun = "job" if len(self._jobs) == 1 else "jobs"
        return [*rows, f"{len(self._jobs)} {noun}: {numbers}"]


def _terminal() -> tuple[int, int]:
    """Columns and lines of the terminal; stdout may be a file."""
    width, height = shutil.get_terminal_size((0, 0))
    if not width or not height:
        with suppress(OSError, ValueError):
            shown = os.get_terminal_size(sys.stderr.fileno())
            width, height = width or shown.columns, height or shown.lines
    return width or 100, height or 24


def fitted(text: str, width: int) -> str:
    """The beginning of a text that has at most `width` columns on a terminal: more would begin another line."""
    for i, character in enumerate(text):
        width -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width < 0:
            return text[:i]
    return text


def described(job: JobUpdate) -> str:
    """ "running  fitting 120/4000  2:10 left  on node7": what is shown of a job after its name."""
    parts = [job.state]
    if job.state == "running" and job.total:
        parts.append(f"{brief(job.task)} {job.done}/{job.total}".lstrip())
    if job.left is not None:
        parts.append(f"{clock(job.left)} left")
    if job.machine and job.state in ("running", "failed"):
        parts.append(f"on {brief(job.machine)}")
    if job.note:
        parts.append(f"({brief(job.note, 160)})")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """ "2:10" or "1:02:10"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
