"""Gaussians as files of quantized values need them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..finite import is_finite
from ..geometry.morton import morton_codes
from ..scene import Gaussians

# bits per axis of a place on the curve
BITS = 20


def writable(gaussians: Gaussians, name: str) -> Gaussians:
    """The Gaussians on the CPU, detached.

    Args:
        gaussians: N Gaussians.
        name: The file's name in messages.

    Raises:
        InputError: A value is NaN or infinite.
    """
    g = gaussians.map(lambda t: t.detach().cpu())
    for field, tensor in g.tensors().items():
        if not is_finite(tensor):
            raise InputError(
                "IO-033",
                f"{name} was not written: {field} contains NaN or infinite values. Check the step that created the scene.",
            )
    return g


def spatial_order(means: Tensor) -> Tensor:
    """An order in which neighbors in space follow each other, which files of ranges and images pack best.

    Args:
        means: [N, 3].

    Returns:
        [N] long: indices.
    """
    positions = means.detach().cpu().double().numpy()
    if not len(positions):
        return torch.zeros(0, dtype=torch.long)
    low = positions.min(0)
    size = max(float((positions.max(0) - low).max()), 1e-300)
    steps = ((positions - low) / size * (2**BITS - 1)).astype(np.int64)
    return morton_codes(torch.from_numpy(steps), BITS).argsort(stable=True)
