"""A process's part of a step: its rows of what is drawn for the whole batch, so that any number of processes draws the same."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

# loss terms of one step, weighted; their sum is minimized
Losses = dict[str, Tensor]
# sums of the weights in weighted means, by name
Totals = dict[str, Tensor]
# draws its part of a step and yields its totals, gets those of an average part, and returns its losses
LossSteps = Generator[Totals, Totals, Losses]


@dataclass(frozen=True)
class Share:
    """One of the equal parts of a step's batch; every process has as many as it accumulates gradients of.

    Args:
        index: Of this part.
        count: Parts of the batch.
    """

    index: int = 0
    count: int = 1

    def of(self, drawn: Tensor, dim: int = 0) -> Tensor:
        """The rows of this part in what was drawn for the whole batch along `dim`."""
        rows = drawn.shape[dim] // self.count
        return drawn.narrow(dim, self.index * rows, rows)

    def owns(self, row: int, rows: int) -> bool:
        """Whether a row of the whole batch is in this part, which has `rows`."""
        return row // rows == self.index

    def generator(self, common: torch.Generator) -> torch.Generator:
        """Randomness for draws whose number depends on the sample: `common` itself if the batch has one part."""
        if self.count == 1:
            return common
        return torch.Generator().manual_seed(self.seed(common))

    def seed(self, common: torch.Generator) -> int:
        """A seed of this part's own, for randomness of other kinds."""
        return int(torch.randint(1 << 62, (self.count,), generator=common)[self.index])


# a batch of one part
WHOLE = Share()


def finished(steps: LossSteps, totals: Totals | None = None) -> Losses:
    """Run loss steps to their end.

    Args:
        steps: Not started if `totals` is None, else waiting for them.
        totals: Those of an average part of the batch; None: the part is the batch.
    """
    try:
        steps.send(next(steps) if totals is None else totals)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the losses ask for totals twice")
