"""The devices of this machine in words: what there is, what runs where, and why a GPU cannot be used.

Rasterizers run on NVIDIA GPUs (gsplat, Warp, torch) and on the CPU (numba, torch, Warp). torch's builds for AMD GPUs (ROCm) call
their devices "cuda" as well: there only the torch rasterizer runs. On Apple's GPU (MPS) none does, so scenes use the CPU.
"""

from __future__ import annotations

import platform
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..wording import LONGEST_SENTENCE, sentence

ROCM = "it runs on NVIDIA GPUs only, and this torch is built for AMD GPUs (ROCm)"
MPS = "no rasterizer runs on Apple's GPU (MPS); scenes use the CPU"
_GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """A device of torch: its name, such as "cuda:1", and what it is."""

    name: str
    label: str

    @property
    def type(self) -> str:
        """ "cuda", "mps" or "cpu"."""
        return self.name.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.name} ({self.label})"


def cpu_name() -> str:
    """Model and number of cores of the CPU, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    # only Linux has this file
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def gpu_choices() -> list[str]:
    """Names of GPUs to choose from: empty where there is only one. Does not start CUDA."""
    count = torch.cuda.device_count()
    return [f"cuda:{index}" for index in range(count)] if count > 1 else []


def gpus() -> list[Device]:
    """The GPUs that torch can use as "cuda", in the order of their indices."""
    if not torch.cuda.is_available():
        return []
    return [Device(f"cuda:{index}", _gpu_label(index)) for index in range(torch.cuda.device_count())]


def _gpu_label(index: int) -> str:
    try:
        about = torch.cuda.get_device_properties(index)
    # a GPU that the driver lists and cannot open
    except (RuntimeError, AssertionError) as error:
        return f"not usable: {_first_sentence(error)}"
    return f"{about.name}, {about.total_memory / _GIB:.1f} GB"


def devices() -> list[Device]:
    """All devices: GPUs first, the CPU last."""
    apple = [Device("mps", "Apple's GPU")] if torch.backends.mps.is_available() else []
    return [*gpus(), *apple, Device("cpu", cpu_name())]


def missing(name: str) -> str | None:
    """Why the device `name` ("cuda", "cuda:1") does not exist, in a sentence with the devices there are; None if it does."""
    kind, _, index = name.partition(":")
    if kind != "cuda":
        return None
    if not torch.cuda.is_available():
        return f"There is no device '{name}': {gpu_problem()} Use device auto or cpu."
    if index and int(index) >= torch.cuda.device_count():
        there = ", ".join(map(str, gpus()))
        return f"There is no device '{name}'; this machine has {there} and cpu."
    return None


def gpu_problem() -> str:
    """Why torch cannot use an NVIDIA GPU, as a sentence with the remedy; empty if it can."""
    if torch.version.hip:
        return "torch is built for AMD GPUs (ROCm): gsplat and Warp do not run there, so scenes use the CPU."
    if torch.cuda.is_available():
        return ""
    if torch.backends.mps.is_available():
        return f"{MPS[0].upper()}{MPS[1:]}."
    if torch.version.cuda is None:
        return (
            f"This torch ({torch.__version__}) is built without CUDA; with an NVIDIA GPU, install a CUDA build "
            "(pytorch.org, Get Started)."
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return _explained(error)
    return "No NVIDIA GPU was found."


def _explained(error: Exception) -> str:
    """A sentence for what torch raises when it cannot start CUDA."""
    text = str(error)
    built_for = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    if "driver on your system is too old" in text:
        return f"The NVIDIA driver is too old ({built_for}); update the driver, or install a torch for an older CUDA."
    if "no NVIDIA driver" in text:
        return "No NVIDIA driver was found; if there is an NVIDIA GPU, install its driver."
    if "No CUDA GPUs are available" in text:
        return "No NVIDIA GPU was found, or CUDA_VISIBLE_DEVICES hides it."
    return f"torch cannot use the GPU ({_first_sentence(error)}); update the NVIDIA driver."


def _first_sentence(error: Exception) -> str:
    return sentence(str(error).partition("\n")[0].strip().rstrip("."), LONGEST_SENTENCE // 2)


@contextmanager
def current(device: torch.device | str) -> Generator[None]:
    """Inside, `device` is torch's current GPU, if it is one with an index: checks of "the GPU" then test this one."""
    device = torch.device(device)
    if device.type != "cuda" or device.index is None:
        yield
        return
    with torch.cuda.device(device):
        yield


def current_gpu() -> int:
    """Index of torch's current GPU; 0 where CUDA cannot be started, which whoever then uses the GPU finds out."""
    try:
        return torch.cuda.current_device()
    except (RuntimeError, AssertionError):
        return 0
