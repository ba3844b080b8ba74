"""How many threads a training step on the CPU uses."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

from ..render import Rasterizer

SMALL = 20_000  # Gaussians


@contextmanager
def threads_for(rasterizer: Rasterizer, device: torch.device, count: int) -> Generator[None, None, None]:
    """One torch thread for `count` Gaussians if they are few; the rasterizer keeps them all.

    On tensors this small torch's own threads bring nothing on two idle cores and cost several times the step on busy
    ones, where they wait for each other. The count also decides bits: so a resumed run may have other cores.
    """
    if device.type != "cpu" or rasterizer.name != "numba" or count > SMALL:
        yield
        return
    from ..render.numba_build import fixed_threads

    before = torch.get_num_threads()
    with fixed_threads(before):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
