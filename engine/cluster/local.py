"""Commands on this machine, one after the other."""

from __future__ import annotations

import errno
import platform
import queue
import threading
from pathlib import Path

from .jobs import Job
from .place import Began, Ended, Event, Line, Lost
from .worker import Command

PACK = Path(__file__).resolve().parents[2]


class Local:
    """See `Place`."""

    capacity = 1
    settling = 0.0

    def __init__(self, pack: Path = PACK) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self._pack = pack
        self._commands: dict[str, Command] = {}
        # an end is told, and the command forgotten, at once
        self._ending = threading.Lock()

    def start(self, job: Job) -> None:
        name = job.name
        try:
            command = Command(
                list(job.words),
                str(self._pack),
                lambda line: self.events.put(Line(name, line)),
                job.processes,
            )
        except OSError as error:
            # memory and processes may be there again later
            is_final = error.errno not in (errno.EAGAIN, errno.ENOMEM)
            self.events.put(Lost(name, f"it could not be started ({error.strerror})", is_final))
            return
        with self._ending:
            self._commands[name] = command
        self.events.put(Began(name, platform.node()))
        threading.Thread(target=self._follow, args=(name, command), daemon=True).start()

    def _follow(self, name: str, command: Command) -> None:
        ending = command.wait()
        with self._ending:
            self.events.put(Ended(name, ending["code"], ending["last"], ending["said"]))
            del self._commands[name]

    def stop(self) -> None:
        for command in self._current().values():
            command.stop()

    def kill(self) -> None:
        for command in self._current().values():
            command.kill()

    def running(self) -> list[str]:
        return list(self._current())

    def _current(self) -> dict[str, Command]:
        with self._ending:
            return dict(self._commands)

    def close(self) -> None:
        self.kill()
