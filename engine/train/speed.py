"""How long one training step takes with a rasterizer, on the bundled demo capture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import torch

from ..scene import MultiViewVideo
from .config import FitConfig
from .fit import Fit

# the bundled demo capture
CLIP = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker"
GAUSSIANS = 5000
# kernels are loaded and compiled in these
WARM_UP = 2


class Demo(Fit):
    """A training that is measured and thrown away."""

    step_name = "demo"


def step_milliseconds(
    video: MultiViewVideo, rasterizer: str, device: str, steps: int, seconds: float, count: int = GAUSSIANS
) -> Generator[int, None, float]:
    """Train for a few steps, with motion and images of full size.

    Args:
        video: The capture.
        rasterizer: Name of a rasterizer.
        device: Torch device.
        steps: Steps to time; two more are made before.
        seconds: Limit for all of them; one step is made in any case.
        count: Gaussians.

    Yields:
        Steps done.

    Returns:
        The median time of a step in milliseconds.

    Raises:
        InputError: The rasterizer cannot run on this machine.
    """
    config = FitConfig(
        rasterizer=rasterizer,
        budget=count,
        initial_count=count,
        coarse_fraction=0.0,
        full_size_at=0.0,
        density="none",
        preview_every=0,
    )
    work, taken = Demo(video, config, device), list[float]()
    begun = time.monotonic()
    with closing(work.feed):
        for done in range(1, WARM_UP + steps + 1):
            start = time.perf_counter()
            work.step()
            if work.device.type == "cuda":
                torch.cuda.synchronize(work.device)
            taken.append(1e3 * (time.perf_counter() - start))
            yield done
            if time.monotonic() - begun > seconds:
                break
    # a step that takes longer than the limit is hardly changed by what it loads
    return statistics.median(taken[WARM_UP:] or taken[-1:])
