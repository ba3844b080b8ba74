"""Ctrl-C and SIGTERM: one true sentence, and nothing lost that a checkpoint can keep.

A signal stops at once, except while a result is written and between two steps of a run that would lose work without its
checkpoint: there it takes effect when the step is done, and a second signal at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .console import tell

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# seconds of a step after which the wait is explained
NOTICED = 0.8


class Stopped(KeyboardInterrupt):
    """The user, or a scheduler, stops the command by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """The signals of a command; there is one for the process, as there is one handler for each signal."""

    def __init__(self) -> None:
        # the first one that came; 0 before
        self.came = 0
        self.waits = False

    def __call__(self, number: int, frame: FrameType | None = None) -> None:
        """The handler."""
        first, self.came = not self.came, self.came or number
        if not (first and self.waits):
            raise Stopped(self.came)
        notice = threading.Timer(NOTICED, self._explain)
        notice.daemon = True
        notice.start()

    def _explain(self) -> None:
        if self.waits:
            tell("stopping when this step is done; the same signal again stops at once", sys.stderr)

    @contextmanager
    def waiting(self, waits: bool = True) -> Generator[None, None, None]:
        """Inside, the first signal only is noted, if `waits`; `check` asks for it."""
        before, self.waits = self.waits, waits
        try:
            yield
        finally:
            self.waits = before

    def check(self) -> None:
        """Raise Stopped if a signal came."""
        if self.came:
            raise Stopped(self.came)


signals = Signals()


@contextmanager
def stoppable() -> Generator[None, None, None]:
    """Inside, SIGINT and SIGTERM raise Stopped as `Signals` says. Does nothing outside the main thread, and leaves a
    signal alone that the caller's shell ignores (a command in the background).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
    hook = sys.unraisablehook
    late: list[threading.Timer] = []
    signals.came = 0

    def swallowed(event: Any) -> None:
        # an exception raised inside a destructor or a C callback ends there
        if isinstance(event.exc_value, Stopped):
            again = threading.Timer(0.02, _send, (event.exc_value.number,))
            again.daemon = True
            late.append(again)
            again.start()
        else:
            hook(event)

    sys.unraisablehook = swallowed
    for number in before:
        signal.signal(number, signals)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        # what comes after this command is not stopped for it
        for again in late:
            again.cancel()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _send(number: int) -> None:
    """Send a signal to the main thread, which may be asleep."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def ignore_signals() -> None:
    """For the rest of the process: it is ending already."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


class Unfinished:
    """The files in which a command keeps unfinished work, compared with what they were when it began."""

    def __init__(self) -> None:
        self._before: dict[Path, tuple[int, int, int] | None] = {}
        # the sentence of a command that keeps its work in another way
        self.kept = ""

    def watch(self, path: Path) -> None:
        self._before.setdefault(path, _version(path))

    def sentence(self) -> str:
        """What is left, for a command that was stopped."""
        if self.kept:
            return self.kept
        there = {path: _version(path) for path in self._before}
        new = [path.name for path, version in there.items() if version not in (None, self._before[path])]
        old = [path.name for path, version in there.items() if version is not None]
        if new:
            return f"stopped; {new[-1]} keeps the unfinished work, and the same command continues from it"
        if old:
            return f"stopped before anything new was kept; {old[-1]} is as it was"
        return "stopped; no unfinished work was kept, and the same command starts from the beginning"


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
