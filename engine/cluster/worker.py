"""What runs a job's command on the machine it was given to. Sent to machines of a cluster by value: only the standard library
is imported, nothing of the pack.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

# lines of what a command said last that are kept to explain its end, and characters of one line
KEPT_LINES, LONGEST_LINE = 12, 1 << 20
# seconds between two looks at a process
LOOK = 0.05


class Command:
    """A command of the pack in a process of its own.

    Args:
        words: The verb and its flags.
        pack: Folder of the pack.
        tell: Called, from another thread, with each line of progress as the command line writes it (`--progress json`).
        processes: That torchrun starts, if more than one.
    """

    def __init__(
        self, words: list[str], pack: str, tell: Callable[[dict[str, Any]], None], processes: int = 1
    ) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [pack, environment.get("PYTHONPATH", "")]))
        environment["PYTHONIOENCODING"] = "utf-8"
        # with it, the working directory would not be searched
        environment.pop("PYTHONSAFEPATH", None)
        self._last, self._said = "", deque[str](maxlen=KEPT_LINES)
        several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
        launcher = several if processes > 1 else ()
        self._process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "engine", *words, "--json", "--progress", "json"],
            cwd=pack,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C on the terminal is for the batch, which stops its commands itself
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_report, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_progress, args=(self._process.stderr, tell), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Ask the command to end; it finishes its step and writes its checkpoint first."""
        with suppress(OSError):
            self._process.terminate()

    def kill(self) -> None:
        with suppress(OSError):
            self._process.kill()

    def wait(self) -> dict[str, Any]:
        """Wait for the end: exit code, the last line of stdout and the last ones of stderr. May be interrupted."""
        while True:
            # in slices: an interrupt of a cluster's worker does not end a wait
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(LOOK)
                break
        for reader in self._readers:
            # a child of the command may still hold the pipe
            reader.join(2)
        return {"code": code, "last": self._last, "said": "\n".join(self._said)}

    def _read_report(self, stream: IO[str]) -> None:
        while line := stream.readline(LONGEST_LINE):
            self._last = line.strip() or self._last

    def _read_progress(self, stream: IO[str], tell: Callable[[dict[str, Any]], None]) -> None:
        while line := stream.readline(LONGEST_LINE):
            if line.startswith('{"event"'):
                # whatever is wrong with a line: a pipe that nobody empties would stop the command
                with suppress(Exception):
                    tell(json.loads(line))
            elif line.strip():
                self._said.append(line.strip()[:400])


def source_digest(pack: str) -> str:
    """A text that differs where the engine's source does; empty where there is none."""
    digest, is_there = hashlib.sha256(), False
    for top, folders, names in os.walk(os.path.join(pack, "engine")):
        folders.sort()
        for name in sorted(n for n in names if n.endswith(".py")):
            with suppress(OSError), open(os.path.join(top, name), "rb") as file:
                digest.update(name.encode() + hashlib.sha256(file.read()).digest())
                is_there = True
    return digest.hexdigest() if is_there else ""


def version_of(pack: str) -> str:
    with suppress(OSError), open(os.path.join(pack, "pyproject.toml"), encoding="utf-8") as file:
        found = re.search(r'^version = "([^"]+)"$', file.read(), re.MULTILINE)
        return found[1] if found else "unknown"
    return "unknown"


def machine_problem(pack: str, version: str, digest: str, token: str, secret: str) -> dict[str, str]:
    """Why jobs cannot run on this machine: what is wrong (`kind`) and what was found; empty where they can.

    Args:
        pack: Folder of the pack.
        version: The version that the pack must have, and `digest` that of its source.
        token: A file in the folder of the outputs, and `secret` what it says.
    """
    there = source_digest(pack)
    if not there:
        return {"kind": "no pack", "found": pack}
    if there != digest:
        found = version_of(pack)
        return {"kind": "other version", "found": found if found != version else f"{found} with other files"}
    try:
        with open(token, encoding="utf-8") as file:
            is_shared = file.read() == secret
    except OSError:
        is_shared = False
    return {} if is_shared else {"kind": "not shared", "found": os.path.dirname(token)}


def ending_signal(code: int) -> str:
    """The name of the signal that ended a process; empty where none did."""
    with suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else ""
    return str(-code)


class Inbox:
    """What workers say, until the driver takes it. An actor with the driver's own life."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self._came = asyncio.Event()

    async def put(self, item: dict[str, Any]) -> None:
        self._items.append(item)
        self._came.set()

    async def wake(self) -> None:
        """End the wait of `take`."""
        self._came.set()

    async def take(self, seconds: float) -> list[dict[str, Any]]:
        """What came, or an empty list after some seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._came.wait(), seconds)
        items, self._items = self._items, []
        self._came.clear()
        return items


def look(terms: dict[str, str]) -> dict[str, str]:
    """On a machine of the cluster: its name, and why it cannot run jobs (`kind`) if it cannot."""
    # a machine may hold several nodes
    node = importlib.import_module("ray").get_runtime_context().get_node_id()
    return {**machine_problem(**terms), "machine": f"{socket.gethostname()} {node[:6]}"}


def work(name: str, words: list[str], processes: int, terms: dict[str, str], inbox: Any) -> dict[str, Any]:
    """On a machine of the cluster: run the command of a job. The driver's cancel stops it, and is then waited for."""
    problem = look(terms)
    if "kind" in problem:
        return {"problem": problem}
    begun: list[Command] = []
    is_cancelled = False

    def cancel(*_: Any) -> None:
        # a second signal would end the command before it has saved its work
        nonlocal is_cancelled
        if not is_cancelled:
            is_cancelled = True
            for command in begun:
                command.stop()

    # a cancel is a KeyboardInterrupt, which must not come between a process and its name
    before = signal.signal(signal.SIGINT, cancel)
    try:
        inbox.put.remote({"began": name, "machine": problem["machine"]})
        begun.append(
            Command(
                words,
                terms["pack"],
                lambda line: inbox.put.remote({"line": name, "progress": line}),
                processes,
            )
        )
        if is_cancelled:
            begun[0].stop()
        return {"ending": begun[0].wait()}
    except BaseException:
        for command in begun:
            command.stop()
            command.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
