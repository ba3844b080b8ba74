"""A head model with the motion of one person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..errors import InputError
from .model import HeadModel
from .motion import HeadMotion


@dataclass(frozen=True, eq=False)
class Head:
    """A head model with the motion of one person: what travels on a GS4D_HEAD socket."""

    model: HeadModel
    motion: HeadMotion
    name: str = ""  # where the motion came from, for messages
    note: str = ""  # what was assumed when it was read

    def __post_init__(self) -> None:
        if len(self.motion.shape) > self.model.shapes or self.motion.expr.shape[1] > self.model.expressions:
            raise InputError(
                "HED-002",
                f"The parameters have {len(self.motion.shape)} shape and {self.motion.expr.shape[1]} expression "
                f"coefficients, {self.model.name} has {self.model.shapes} and {self.model.expressions}; select the head "
                "model that the parameters were fitted with.",
            )
        offset = self.motion.static_offset
        if offset is not None and len(offset) != len(self.model.template):
            raise InputError(
                "HED-003",
                f"The parameters are for a mesh of {len(offset)} vertices, {self.model.name} has "
                f"{len(self.model.template)}; select the head model that the parameters were fitted with.",
            )

    @cached_property
    def posed(self) -> Tensor:
        """[T, V, 3] the mesh at every frame of the head's own motion, without gradients; made once."""
        return self.model.posed(self.motion)

    def vertices(self, motion: HeadMotion | None = None) -> Tensor:
        """[T, V, 3] the posed mesh of each frame, of `motion` or of the head's own; differentiable."""
        return self.model.pose(self.motion if motion is None else motion)

    def summary(self) -> str:
        """A line about the head, and what was assumed."""
        line = (
            f"{self.name or 'head'}: {len(self.motion)} frames, {len(self.model.template)} vertices, "
            f"{len(self.model.faces)} triangles"
        )
        return "\n".join(filter(None, (line, self.note)))
