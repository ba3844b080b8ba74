"""What a deformation must offer beyond `Deformation` so that the training loop can optimise it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ..scene.gaussians import Gaussians
from ..scene.scene4d import Deformation

__all__ = ["Deformation", "TrainableDeformation"]


@runtime_checkable
class TrainableDeformation(Deformation, Protocol):
    """A deformation with parameters. All methods are differentiable in the Gaussians and the parameters."""

    def deform_many(self, gaussians: Gaussians, seconds: Tensor | Sequence[float]) -> list[Gaussians]:
        """The Gaussians at each of B times; cheaper than B calls, and equal to them."""
        ...

    def deform_active(self, gaussians: Gaussians, seconds: float, active: Tensor | None) -> Gaussians:
        """Only Gaussians where `active` [N] bool move; the others keep their values bit for bit. None = all."""
        ...

    def grid_parameters(self) -> list[nn.Parameter]:
        """Parameters that learn at the grid's rate (ten times the network's in 4D-GS)."""
        ...

    def network_parameters(self) -> list[nn.Parameter]: ...
