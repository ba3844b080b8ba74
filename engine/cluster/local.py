"""Commands on this machine, one after the other."""

from __future__ import annotations

import platform
import queue
import threading
from pathlib import Path

from .jobs import Job
from .place import Began, Ended, Event, Line
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

    def start(self, job: Job) -> None:
        name = job.name
        command = Command(
            list(job.words), str(self._pack), lambda line: self.events.put(Line(name, line)), job.processes
        )
        self._commands[name] = command
        self.events.put(Began(name, platform.node()))
        threading.Thread(target=self._follow, args=(name, command), daemon=True).start()

    def _follow(self, name: str, command: Command) -> None:
        ending = command.wait()
        self.events.put(Ended(name, ending["code"], ending["last"], ending["said"]))

    def stop(self) -> None:
        for command in self._commands.values():
            command.stop()

    def kill(self) -> None:
        for command in self._commands.values():
            command.kill()

    def running(self) -> list[str]:
        return [name for name, command in self._commands.items() if command.is_running()]

    def close(self) -> None:
        self.kill()
