"""Where commands run. A place starts them, says what becomes of them, and stops them all."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .jobs import Job


@dataclass(frozen=True)
class Began:
    """The command of a job was started on a machine."""

    job: str
    machine: str


@dataclass(frozen=True)
class Line:
    """A line of progress, as the command line writes it."""

    job: str
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The command ended: its exit code, the last line of its stdout, the last lines of its stderr."""

    job: str
    code: int
    last: str
    said: str


@dataclass(frozen=True)
class Lost:
    """The machine of a job was lost, or cannot run it (`is_final`: trying again does not help)."""

    job: str
    reason: str
    is_final: bool = False


@dataclass(frozen=True)
class Closed:
    """The whole place was lost."""

    reason: str


Event = Began | Line | Ended | Lost | Closed


class Place(Protocol):
    """Where commands run; `events` is read by whoever started them."""

    events: queue.Queue[Event]
    # jobs that may be started before others have ended
    capacity: int
    # seconds that outputs take to be seen here: machines see each other's files on shared storage with a delay
    settling: float

    def start(self, job: Job) -> None: ...

    def stop(self) -> None:
        """Ask all commands to end."""
        ...

    def kill(self) -> None:
        """End all commands at once."""
        ...

    def running(self) -> list[str]:
        """Names of the jobs whose commands have not ended. The end of all others is among the events."""
        ...

    def close(self) -> None:
        """Give everything back. Waits for nothing that may not come."""
        ...
