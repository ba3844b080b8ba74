"""Compile the CPU kernels in child processes, while this one reads a capture or loads a model; once on a machine.

Compiling holds Python's lock, so a thread would not help. Whoever needs a kernel that another process is compiling waits for it
(kernels/cache.py) and then loads it; what no process has begun, it compiles itself.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import torch

from .. import backends
from ..deform import HexPlane, HexPlaneConfig
from ..kernels.threads import cores
from ..losses.color_loss import color_loss
from ..losses.regularizers import hexplane_regularizer
from ..render.shading import shade
from ..scene import Cameras, Gaussians
from . import exploration

log = logging.getLogger("gs4d")

# "0" turns it off
VARIABLE = "GS4D_COMPILE_AHEAD"
# the engine has the name that it has in this process, since compiled signatures contain it; packages above it may be unable to
# be imported without ComfyUI, and stay empty
CALL = """
import sys, types
sys.path[:] = {path!r}
for name, folders in {above!r}:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = folders
from importlib import import_module
import_module({module!r}).compile_all(backwards={backwards!r})
"""
# processes: with two, one begins at the other end
FEW_CORES, MANY_CORES = 2, 4
# on Windows; elsewhere the child lowers its own priority, by so much
WINDOWS_FLAGS, NICENESS = ("CREATE_NO_WINDOW", "BELOW_NORMAL_PRIORITY_CLASS"), 10
_begun = threading.Event()


def start() -> list[subprocess.Popen[bytes]]:
    """Start the child processes, unless kernels are compiled, not needed, or this machine has one core. Returns at once.

    Only the first call in a process does anything. The children end with this process, whichever way it ends.
    """
    if _begun.is_set():
        return []
    _begun.set()
    try:
        return [_start(backwards) for backwards in (False, True)[: _count()]]
    # a kernel is compiled when it is needed, as without children
    except OSError as error:
        log.debug("kernels are not compiled ahead: %s", backends.short(error))
        return []


def _count() -> int:
    """How many child processes are worth their while."""
    is_off = os.environ.get(VARIABLE) == "0" or not sys.executable or getattr(sys, "frozen", False)
    if is_off or cores() < FEW_CORES or torch.cuda.is_available() or not backends.installed("numba"):
        return 0
    done = _stamp()
    if done is None or done.exists():
        return 0
    return 2 if cores() >= MANY_CORES else 1


def _stamp() -> Path | None:
    """A file that exists once all kernels are compiled for this CPU."""
    import llvmlite.binding as llvm

    from ..kernels.cache import cache_folder

    folder = cache_folder()
    return None if folder is None else folder / f"all-{llvm.get_host_cpu_name()}.ready"


def _start(backwards: bool) -> subprocess.Popen[bytes]:
    engine = __name__.rpartition(".train.")[0]
    parts = engine.split(".")
    above = [".".join(parts[:i]) for i in range(1, len(parts))]
    code = CALL.format(
        path=[str(Path(__file__).resolve().parents[2]), *sys.path],
        above=[(name, list(sys.modules[name].__path__)) for name in above],
        module=__name__,
        backwards=backwards,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        creationflags=sum(getattr(subprocess, flag, 0) for flag in WINDOWS_FLAGS),
    )
    threading.Thread(target=_follow, args=(process,), daemon=True).start()
    return process


def _follow(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    with process.stderr as told:
        lines = told.read().decode("utf-8", "replace").split("\n")
    if process.wait() != 0:
        reason = next((line for line in reversed(lines) if line.strip()), f"exit code {process.returncode}")
        log.debug("kernels were not compiled ahead: %s", reason[:200])


# ---- in a child ----------------------------------------------------------------------------------------------------


def compile_all(backwards: bool = False) -> None:
    """Use each kernel of training, editing and playing once, in float32."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # what the parent computes meanwhile goes first
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(1)
    for use in reversed(USES) if backwards else USES:
        use()
    stamp = _stamp()
    if stamp is not None:
        stamp.touch()


def _end_with_parent() -> None:
    """End this process when the other end of its standard input is closed."""
    os.read(0, 1)
    os._exit(1)


def _gaussians() -> Gaussians:
    shapes = ((1, 3), (1, 3), (1, 4), (1,), (1, 1, 3))
    return Gaussians(*(torch.ones(shape, requires_grad=True) for shape in shapes))


def _use_shading() -> None:
    shaded = shade(_gaussians(), Cameras(torch.eye(4)[None], torch.eye(3)[None], ((1, 1),), ("view",)))
    torch.cat([part.flatten() for part in shaded]).sum().backward()


def _use_rasterizer() -> None:
    from ..render.numba.rasterizer import NumbaRasterizer

    NumbaRasterizer.warm_up(3)


def _use_loss() -> None:
    color_loss(torch.zeros(1, 16, 16, 3, requires_grad=True), torch.ones(1, 16, 16, 3), 0.2)


def _use_noise() -> None:
    held = torch.zeros(1, dtype=torch.bool)
    exploration.shift(_gaussians().tensors(), held, 1.0, 0.5, torch.Generator())


def _use_motion() -> None:
    box = torch.tensor([[1.0] * 3, [-1.0] * 3])
    # only the number of levels and the element type decide what is compiled
    field = HexPlane.create(HexPlaneConfig(resolution=(4, 4, 4, 4)), box)
    hexplane_regularizer(field.grids, field.grid_layout, 1.0, 1.0, 1.0)
    deltas = field.deltas(torch.zeros(1, 3), [0.0])
    torch.cat([delta.flatten() for delta in deltas.values()]).sum().backward()


# the longest first: meanwhile, a process that waits for none of these compiles what it needs at once itself
USES = (_use_rasterizer, _use_motion, _use_loss, _use_noise, _use_shading)
