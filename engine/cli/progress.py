"""How far a command is: lines for people on stderr, or JSON for a program that follows it.

With `--progress json`, each line of stderr that begins with `{"event"` is one JSON object:

    {"event": "started", "task": "preparing frames", "total": 320, "note": "…"}
    {"event": "progress", "done": 120, "total": 4000, "gaussians": 8000, "losses": {"loss": 0.031}}
    {"event": "finished", "note": "…"}

A command with several stages starts several times. Other lines are text, such as the error. When whoever reads stderr has ended,
the command stops as by SIGTERM: a batch that was killed leaves nothing that works on.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Protocol

from ..messages import Finished, Progress, Started
from ..train import ranks
from .console import tell

TEXT, JSON = "text", "json"
# seconds between two lines, for people and for programs
FOR_PEOPLE, FOR_PROGRAMS = 1.0, 0.4


class Follower(Protocol):
    """Says how far a stream is."""

    def started(self, message: Started) -> None: ...

    def went_on(self, message: Progress) -> None: ...

    def finished(self, message: Finished) -> None: ...


class _Silent:
    def started(self, message: Started) -> None:
        pass

    def went_on(self, message: Progress) -> None:
        pass

    def finished(self, message: Finished) -> None:
        pass


class _ForPeople:
    def __init__(self) -> None:
        self._total, self._task, self._shown = 0, "", 0.0

    def started(self, message: Started) -> None:
        self._total, self._task = message.total, f"{message.task} ".lstrip()
        tell(message.note, sys.stderr)

    def went_on(self, message: Progress) -> None:
        if time.monotonic() - self._shown > FOR_PEOPLE:
            self._shown = time.monotonic()
            numbers = "  ".join(f"{k} {v:.4f}" for k, v in message.losses.items())
            count = f"  {message.count} Gaussians" if message.count else ""
            end = message.total or self._total
            tell(f"  {self._task}{message.done}/{end}{count}  {numbers}", sys.stderr)

    def finished(self, message: Finished) -> None:
        if message.note:
            tell(message.note, sys.stderr)


class _ForPrograms:
    def __init__(self) -> None:
        self._total, self._shown = 0, 0.0

    def started(self, message: Started) -> None:
        self._total, self._shown = message.total, 0.0
        _write("started", task=message.task, total=message.total, note=message.note)

    def went_on(self, message: Progress) -> None:
        if time.monotonic() - self._shown > FOR_PROGRAMS:
            self._shown = time.monotonic()
            losses = {name: float(value) for name, value in message.losses.items() if math.isfinite(value)}
            total = message.total or self._total
            _write("progress", done=message.done, total=total, gaussians=message.count, losses=losses)

    def finished(self, message: Finished) -> None:
        _write("finished", note=message.note)


# of this command; `follow` is also handed on as a function
_mode = TEXT


def set_progress(mode: str) -> None:
    """Choose how progress is told: TEXT or JSON."""
    global _mode
    _mode = mode
    if mode == JSON:
        threading.Thread(target=_watch_reader, daemon=True).start()


def progress_for(quiet: bool) -> Follower:
    """Who says how far the next stream is; `quiet` silences what is for people."""
    if not ranks.leads():
        return _Silent()
    return _ForPrograms() if _mode == JSON else _Silent() if quiet else _ForPeople()


def _write(event: str, **content: Any) -> None:
    tell(json.dumps({"event": event, **content}), sys.stderr)


def _watch_reader() -> None:
    """Stop this process when nobody reads its stderr any more."""
    if not hasattr(select, "poll"):
        # Windows: pipes cannot be watched there
        return
    try:
        poll = select.poll()
        # an error or the end of the pipe is reported without being asked for
        poll.register(sys.stderr.fileno(), 0)
    except (OSError, ValueError):
        return
    # nothing else was asked for, so that it returns once; a closed file has no reader to lose
    if any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll()):
        os.kill(os.getpid(), signal.SIGTERM)
