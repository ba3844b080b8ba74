"""Warp beside torch: arrays on tensors' memory, and Warp's work in the order of torch's."""
# pyright: basic

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
import warp as wp
from torch import Tensor


def array(tensor: Tensor, dtype: Any = None) -> Any:
    """A Warp array on a tensor's memory."""
    return wp.from_torch(tensor.detach().contiguous(), dtype=dtype, requires_grad=False)


@contextmanager
def quiet() -> Generator[None]:
    """Warp prints its devices and what it compiles on standard output, which belongs to the command line's results."""
    before, wp.config.log_level = wp.config.log_level, wp.LOG_WARNING
    try:
        yield
    finally:
        wp.config.log_level = before


@contextmanager
def place(device: torch.device) -> Generator[str]:
    """Warp's name of a device, with Warp's work in the order of torch's."""
    if device.type != "cuda":
        with quiet():
            yield "cpu"
        return
    with quiet(), wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device))):
        yield str(wp.device_from_torch(device))
