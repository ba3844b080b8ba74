"""When a run ends: after its iterations, or after `max_seconds` where these come first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from .ranks import current

# steps of a run before their pace is used for predictions; the first one also compiles and reads
FIRST_STEPS = 5


class Limits(Protocol):
    """The fields of a Config that end a run."""

    @property
    def iterations(self) -> int: ...
    @property
    def max_seconds(self) -> float: ...


class TimeLimit:
    """Predicts after how many steps a run ends, and says so when time ended it.

    Without `max_seconds`, or where there is time for all iterations, `expected` is the config's number of iterations, so that
    schedules which follow it depend on the clock only where time runs out.

    Args:
        pace: `iterations`, and `max_seconds`, of which 0 is no limit.
        clock: Seconds.
        start: The clock when the work began; None = now.
    """

    def __init__(
        self, pace: Limits, clock: Callable[[], float] = time.monotonic, start: float | None = None
    ) -> None:
        self.pace, self.clock = pace, clock
        self.start = clock() if start is None else start
        # steps after which the run ends
        self.expected = pace.iterations
        # how a run ended that time stopped
        self.ending = ""
        # what the run would lack if it ended now
        self.lacking = ""
        # (seconds, steps) after the first step
        self._first: tuple[float, int] | None = None
        # after the last step, on the clock of the first process
        self._seconds = 0.0

    @property
    def remaining(self) -> int:
        """Steps of the whole run where time ends it before its iterations; else 0."""
        return self.expected if self.expected < self.pace.iterations else 0

    def tick(self, done: int) -> None:
        """Predict the end again; call it after each step, with the number of steps done."""
        if not self.pace.max_seconds:
            return
        now = self.clock()
        self._first = self._first or (now, done)
        begun, before = self._first
        if done - before >= FIRST_STEPS:
            seconds = max(now - begun, 1e-9) / (done - before)
            left = (self.pace.max_seconds - (now - self.start)) / seconds
            # the step in which the time passes is finished
            more = int(min(left, self.pace.iterations)) + 1 if left >= 0 else 0
            self.expected = min(self.pace.iterations, done + more)
        # processes end after the same step
        expected, self._seconds = current().first([self.expected, now - self.start])
        self.expected = int(expected)

    def is_over(self, done: int) -> bool:
        """Whether time ends the run after so many steps."""
        if not self.pace.max_seconds:
            return False
        seconds = self.clock() - self.start if current().size == 1 else self._seconds
        if seconds <= self.pace.max_seconds:
            return False
        if done < self.pace.iterations:
            parts = (f"stopped after {seconds:.0f} s at step {done} of {self.pace.iterations}", self.lacking)
            self.ending = "; ".join(filter(None, parts))
        return True
