"""What reading something costs: memory and seconds, in a process of its own that cannot take the machine with it."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.wording import LONGEST_SENTENCE

# /proc tells the memory in use, and lets its peak be measured anew
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
# bytes of addresses that a child may take beyond its parent's
ADDRESSES = 6 << 30
# megabytes beyond what the process holds, and seconds on a machine that has other work
MEMORY, SECONDS = 500, 60
# seconds after which a child is ended
LONGEST = 120


@dataclass(frozen=True)
class Cost:
    """How something ended: "value" or the sentence, or what else happened, and what it took."""

    said: str
    megabytes: float = 0.0
    seconds: float = 0.0


def _status(key: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(text.split(f"{key}:")[1].split()[0])


def start_measuring() -> int:
    """The bytes in use; the peak is measured from here on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak() -> int:
    """The most bytes in use since `start_measuring`."""
    return _status("VmHWM")


def cost_of(use: Callable[[], object]) -> Cost:
    """Run `use` in a forked process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            os.write(write, json.dumps(_measured(use)).encode())
        finally:
            os._exit(0)
    os.close(write)
    has_ended = bool(select.select([read], [], [], LONGEST)[0])
    answer = os.read(read, 1 << 16) if has_ended else b""
    os.close(read)
    if not has_ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not answer:
        return Cost(f"ended by signal {status & 127}" if has_ended else f"took over {LONGEST} s")
    return Cost(*json.loads(answer))


def _measured(use: Callable[[], object]) -> tuple[str, float, float]:
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESSES, held + ADDRESSES))
    before, start = start_measuring(), time.monotonic()
    try:
        use()
        said = "value"
    except InputError as error:
        said = str(error)
    except BaseException as error:
        said = f"{type(error).__name__}: {str(error)[:300]}"
    return said, (peak() - before) / 2**20, time.monotonic() - start


def bounded(use: Callable[[], object], said: str, megabytes: float = MEMORY) -> Cost:
    """The cost of `use`, which must end in a value or in a sentence with `said` in it."""
    cost = cost_of(use)
    assert said in cost.said, cost
    assert cost.said == "value" or (cost.said.isprintable() and len(cost.said) <= LONGEST_SENTENCE), cost
    assert cost.megabytes < megabytes and cost.seconds < SECONDS, cost
    return cost
