"""Models in a socket whose networks the engine puts on the device one after the other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import torch

from . import host


class Staged(Protocol):
    """What the engine's models say about themselves."""

    @property
    def device(self) -> torch.device: ...

    @property
    def megabytes(self) -> int: ...


M = TypeVar("M", bound=Staged)


class StagedModels(Generic[M]):
    """The value of a model socket.

    Args:
        models: The engine's models.
        working_megabytes: Memory of the activations, besides the largest network's weights.
    """

    def __init__(self, models: M, working_megabytes: int) -> None:
        self.models, self.working_megabytes = models, working_megabytes

    @contextmanager
    def in_use(self, working_megabytes: int = 0) -> Generator[M, None, None]:
        """Inside, there is room on the device for the largest network, and so much besides."""
        if self.models.device.type != "cpu":
            needed = self.models.megabytes + self.working_megabytes + working_megabytes
            host.make_room(needed, self.models.device)
        try:
            yield self.models
        finally:
            host.free()
