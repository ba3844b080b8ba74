"""A finished motion that stays as it is while the Gaussians under it are trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..scene import Deformation, Gaussians
from .motion import Collected, MotionStart, TrainableMotion, freeze, on_cpu
from .normalization import Normalization
from .parameters import Lineage


class FrozenMotion(TrainableMotion):
    """Moves the trained Gaussians by a deformation of any kind, without changing it.

    Args:
        deformation: The finished motion, in world units.
        world: The training's normalized world.
        count: Gaussians that the deformation is stored for.
    """

    has_coarse_stage = False

    def __init__(
        self, deformation: Deformation, world: Normalization, count: int, device: torch.device
    ) -> None:
        # a copy, whose parameters need no gradients
        self.whole = deformation.to(device)
        freeze(self.whole)
        self.world = world
        self._follow(torch.arange(count, device=device))

    @staticmethod
    def create(start: MotionStart) -> FrozenMotion:
        """The motion of the start scene."""
        assert start.scene is not None
        canonical = start.canonical
        return FrozenMotion(start.scene.deformation, start.world, len(canonical), canonical.device)

    def _follow(self, origin: Tensor) -> None:
        # index in the start scene of each Gaussian's ancestor, [N]
        self.origin = origin
        self.current = self.whole.take(origin)

    def deform(self, trained: Gaussians, seconds: float) -> Gaussians:
        return self.world.shrink(self.current.deform(self.world.grow(trained), seconds))

    def step(self, progress: float) -> None:
        """Nothing learns."""

    def after_density(self, change: Lineage, part: Deformation | None = None) -> None:
        """Each Gaussian moves as its ancestor in the start scene."""
        self._follow(self.origin[change.parents])

    def trained(self) -> Mapping[str, Tensor]:
        return {}

    def finished(self, world: Normalization, collected: Collected = on_cpu) -> Deformation:
        return self.whole.to("cpu").take(collected(self.origin, 0))

    def rows(self) -> Mapping[str, int | None]:
        return {"origin": 0}

    def state(self) -> dict[str, Tensor]:
        return {"origin": self.origin}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._follow(state["origin"].to(self.origin.device))
