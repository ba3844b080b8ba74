"""Splats that leave a scene standing upright, for programs that take y as down, and come back as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..scene import Gaussians
from .placement import turned

# how splats and cameras of other programs may stand: as those programs expect it, or in the scene's own coordinates
UPRIGHT, AS_STORED = "upright", "as stored"
ORIENTATIONS = (UPRIGHT, AS_STORED)


@dataclass(frozen=True, eq=False)
class SampledFrom:
    """What a splat that was sampled from a scene knows about it.

    Args:
        seconds: Times [T] of the splats in the scene, float64.
        turn: Rotation [3, 3] (float64) that took the scene's coordinates to the splats'; None where they are the same.
    """

    seconds: Tensor
    turn: Tensor | None = None


class Splats(list[Gaussians]):
    """T splats of another program or node; `sampled_from` says what is known about the scene that they were taken from."""

    def __init__(self, moments: Sequence[Gaussians], sampled_from: SampledFrom | None = None) -> None:
        super().__init__(moments)
        self.sampled_from = sampled_from

    @property
    def turn(self) -> Tensor | None:
        """Rotation [3, 3] (float64) that took their scene's coordinates to theirs, where one is known."""
        return None if self.sampled_from is None else self.sampled_from.turn

    def as_stored(self) -> Splats:
        """The same splats in the coordinates of the scene that they were taken from, as far as that is known."""
        return self if self.turn is None else Splats(turned_back(self, self.turn), self.sampled_from)


def turned_back(moments: Sequence[Gaussians], turn: Tensor) -> list[Gaussians]:
    """Gaussians before they were turned about the origin by `turn` [3, 3]."""
    return [turned(each, turn.T) for each in moments]
