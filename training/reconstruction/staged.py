"""Samples of files for the stages of the training."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.errors import InputError
from engine.models.reconstruction import LdrmConfig
from training.common.samples import Samples, open_samples

from .data import Sample, sample_kind


class StagedSamples:
    """Samples of files for each stage, in order; one for all if there is one.

    Args:
        sources: As `Samples`.
        config: The model that they are for.
        seed: Of their order.
    """

    def __init__(self, sources: list[str], config: LdrmConfig, seed: int = 0) -> None:
        self._sources = [open_samples(source, sample_kind(config), seed) for source in sources]
        self._current = 0

    def of(self, stage: int) -> Samples[Sample]:
        """The samples of a stage, from which the next ones are drawn."""
        self._current = min(stage, len(self._sources) - 1)
        return self._sources[self._current]

    def __len__(self) -> int:
        return sum(map(len, self._sources))

    def place(self) -> Tensor:
        """The place of each source, and how many samples were skipped in all."""
        places = torch.stack([s.place() for s in self._sources])
        return torch.cat([places.flatten(), places[:, -1].sum()[None]])

    def go_to(self, places: Tensor) -> None:
        """Go on where the processes of a checkpoint were."""
        each = places[:, :-1].unflatten(1, (-1, 3))
        if each.shape[1] != len(self._sources):
            raise InputError(
                "NET-011",
                f"The checkpoint was made with {each.shape[1]} sources of samples, not "
                f"{len(self._sources)}; give the same --data.",
            )
        for source, rows in zip(self._sources, each.unbind(1), strict=True):
            source.go_to(rows)
