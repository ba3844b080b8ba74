"""Between which stored frames a time lies."""

from __future__ import annotations

import torch
from torch import Tensor


def frames_around(times: Tensor, seconds: float) -> tuple[int, int, float]:
    """(first, second, weight of the second in 0..1) for a time; outside of `times` [T] its first or last frame counts."""
    last = len(times) - 1
    second = min(int(torch.searchsorted(times, float(seconds), right=True)), last)
    first = max(second - 1, 0)
    start, end = float(times[first]), float(times[second])
    return first, second, min(max((seconds - start) / (end - start), 0.0), 1.0) if end > start else 0.0
