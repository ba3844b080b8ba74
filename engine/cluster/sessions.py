"""The processes of a session: a program that was started with `start_new_session`, and what it started in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

# whether the processes of a session can be listed
CAN_LIST = sys.platform.startswith("linux")
# seconds between two looks at them
LOOK = 0.01


def members(session: int) -> list[int]:
    """Numbers of the processes of a session that have not ended. Linux only."""
    found: list[int] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # the program's name is in parentheses, and may have some itself
            state, _, _, of = file.read().rpartition(b")")[2].split()[:4]
            if int(of) == session and state not in (b"Z", b"X"):
                found.append(int(name))
    return found


def end_session(leader: subprocess.Popen[str], seconds: float) -> None:
    """Kill a program that leads a session, and all processes of it; waits for their end, at most some seconds.

    What they started in sessions of their own is left alone. Where processes cannot be listed, those of the leader's
    process group are killed; on Windows, the leader alone.
    """
    end = time.monotonic() + seconds
    if CAN_LIST:
        # again, for what was started while they were listed
        while left := members(leader.pid):
            for process in left:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            if time.monotonic() > end:
                break
            time.sleep(LOOK)
    else:
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(leader.pid, signal.SIGKILL)
            else:
                leader.kill()
    with suppress(subprocess.TimeoutExpired):
        leader.wait(max(LOOK, end - time.monotonic()))
