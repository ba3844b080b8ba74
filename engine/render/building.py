"""Compile kernels before their first use, in child processes: these can be canceled, and a crash of a driver ends them alone.

Warp caches what it compiles for each kind of GPU, torch what it compiles of gsplat; later processes load both in seconds.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

from .. import backends
from . import gsplat_cuda, self_check, warp

# a call of a function below, in a fresh process; a path file of an embedded Python ignores the working directory
CALL = (
    "import sys; sys.path.insert(0, {root!r}); from engine.render import building; sys.exit(building.{call})"
)
ROOT = Path(__file__).resolve().parents[2]
# between two looks at a child
SECONDS = 0.5
# lines of a child's output that are kept to explain its failure
KEPT_LINES = 40
_WINDOWS = sys.platform == "win32"


def build_warp(index: int) -> Generator[str, None, str | None]:
    """Compile Warp's kernels for a GPU; yields lines of progress, returns why it failed or None."""
    if not backends.installed("warp"):
        return backends.HINTS["warp"]
    reason = yield from _child(f"warp_child({index})")
    self_check.forget(warp.NAME)
    # this process does not try what crashed a child
    return None if reason is None else self_check.failed_elsewhere(warp.NAME, index, reason)


def build_gsplat() -> Generator[str, None, str | None]:
    """Compile gsplat's kernels; yields lines of progress, returns why it failed or None. Takes minutes."""
    obstacle = _gsplat_needs()
    if obstacle is not None:
        return obstacle
    reason = yield from _child("gsplat_child()")
    self_check.forget(gsplat_cuda.NAME)
    return backends.gsplat_built(reason and f"gsplat was not compiled ({reason})")


def _gsplat_needs() -> str | None:
    """What is missing to compile gsplat, without starting a compiler."""
    if not backends.installed("gsplat"):
        return backends.HINTS["gsplat"]
    from torch.utils import cpp_extension

    if cpp_extension.CUDA_HOME is None:
        return "gsplat needs a CUDA toolkit (nvcc) to be compiled, and none was found; Warp needs none"
    return None


def warp_child(index: int) -> int | str:
    """In the child: use every kernel once. Returns an exit code, or the reason for failing."""
    from .warp.rasterizer import WIDTHS, WarpRasterizer

    for channels in WIDTHS:
        print(f"compiling Warp's kernels for {channels} channels", flush=True)
        off = self_check.difference(f"cuda:{index}", WarpRasterizer(), channels)
        if not self_check.is_close(off):
            return f"images differ from the reference by {off:.2g}"
    return 0


def gsplat_child() -> int | str:
    """In the child: import gsplat, which compiles it."""
    print("compiling gsplat, which takes some minutes", flush=True)
    return backends.gsplat_obstacle(may_compile=True) or 0


def _child(call: str) -> Generator[str, None, str | None]:
    """Call a function of this file in a child process. Closing the generator ends the child and what it started.

    Yields:
        Its lines of output; the last one again, with the time, while it prints nothing.

    Returns:
        Why it failed, in one line; None if it succeeded.
    """
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", CALL.format(root=str(ROOT), call=call)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=not _WINDOWS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        return backends.short(error)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    last, seen = "starting", list[str]()
    try:
        while process.poll() is None or not lines.empty():
            with suppress(queue.Empty):
                seen = [*seen, lines.get(timeout=SECONDS)][-KEPT_LINES:]
                last = seen[-1]
            yield f"{last} ({time.monotonic() - begun:.0f} s)"
    finally:
        end_process(process)
    if process.returncode == 0:
        return None
    return seen[-1] if seen else f"exit code {process.returncode}"


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[str]) -> None:
    """Hand on a child's output line by line, whatever its encoding."""
    assert process.stdout is not None
    for line in process.stdout:
        if text := line.decode("utf-8", "replace").strip()[:200]:
            lines.put(text)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, with the compilers that it started."""
    if process.poll() is not None:
        return
    with suppress(OSError):
        if _WINDOWS:
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False
            )
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
