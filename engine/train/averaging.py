"""Averages of trained tensors over the last steps of a training, which lack the noise of single steps.

After Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging": a plain mean over a stretch of steps.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

# steps between two samples: neighboring steps differ too little to be worth the reading
EVERY = 5


class Averages:
    """The mean of named tensors over samples; part of a training's checkpoint.

    Example:
        averages.add(trained)  # after a step
        with averages.applied(trained):
            save(trained)
    """

    def __init__(self) -> None:
        self.samples = 0
        self.means: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors' current values into the means. Integers and flags are left out, since they do not vary by noise."""
        varying = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        self.samples += 1
        if self.samples == 1:
            self.means = {name: tensor.detach().clone() for name, tensor in varying.items()}
            return
        for name, tensor in varying.items():
            self.means[name].lerp_(tensor, 1 / self.samples)

    def restart(self) -> None:
        """Forget all samples: rows mean other Gaussians from here on."""
        self.samples, self.means = 0, {}

    @contextmanager
    def applied(self, tensors: Mapping[str, Tensor]) -> Generator[None, None, None]:
        """Inside, `tensors` hold their means, if there are any; afterwards their own values again, bit for bit."""
        with torch.no_grad():
            own = {name: tensors[name].detach().clone() for name in self.means}
            for name, mean in self.means.items():
                tensors[name].copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, values in own.items():
                    tensors[name].copy_(values)

    def rows(self, axes: Mapping[str, int | None]) -> dict[str, int | None]:
        """The axis with one entry for each Gaussian, of what `state` may hold; `axes` are those of the averaged tensors."""
        return {f"mean.{name}": axis for name, axis in axes.items() if axis is not None}

    def state(self) -> dict[str, Tensor]:
        """The samples' count, and the means under their tensors' names."""
        return {"samples": torch.tensor(self.samples), **{f"mean.{n}": t for n, t in self.means.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        # absent in files of before
        self.samples = int(state.get("samples", 0))
        self.means = {n.removeprefix("mean."): t.clone() for n, t in state.items() if n.startswith("mean.")}
