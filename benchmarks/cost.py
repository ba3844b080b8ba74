"""Measure cost: seconds, images passed through the diffusion model, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Counting:
    """A backbone that counts the calls of its network; everything else is passed on to the wrapped backbone."""

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self.calls = 0  # forward passes of the network, whatever the batch
        self.pictures = 0  # images in them: a batch of 3 branches × 4 views counts as 12

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def predict(self, noisy: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.calls += 1
        self.pictures += len(noisy)
        return self._backbone.predict(noisy, *args, **kwargs)


@dataclass
class Cost:
    seconds: float = 0.0  # wall clock
    cpu_seconds: float = 0.0  # of all threads; hardly affected by other load
    diffusion_calls: int = 0  # images passed through the network
    network_calls: int = 0  # forward passes
    peak_mb: float = 0.0  # maximum over the runs: the whole process, or torch's allocation on the GPU

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.diffusion_calls + other.diffusion_calls,
            self.network_calls + other.network_calls,
            max(self.peak_mb, other.peak_mb),
        )


@contextmanager
def costing(backbone: Counting | None, device: str) -> Generator[Cost]:
    """Measures the block; the yielded object holds the numbers afterward."""
    cost = Cost()
    calls, pictures = (backbone.calls, backbone.pictures) if backbone is not None else (0, 0)
    reset_peak(device)
    start, cpu = time.monotonic(), time.process_time()
    yield cost
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    cost.seconds, cost.cpu_seconds = time.monotonic() - start, time.process_time() - cpu
    cost.peak_mb = peak_mb(device)
    if backbone is not None:
        cost.network_calls, cost.diffusion_calls = backbone.calls - calls, backbone.pictures - pictures


def reset_peak(device: str) -> None:
    """Reset the peak, where the system supports it (Linux, CUDA)."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        _CLEAR.write_text("5")  # Linux: resets the high-water mark to the memory that is resident now
    except OSError:
        pass


def peak_mb(device: str) -> float:
    """Peak megabytes: torch's allocation on the GPU, or this process on the CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6
