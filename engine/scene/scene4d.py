"""A moving scene as one value: canonical Gaussians, a deformation, times, rig, bounds, history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from .cameras import Cameras
from .gaussians import Gaussians


@runtime_checkable
class Deformation(Protocol):
    """Moves canonical Gaussians to a time. Implementations: `Static` here, the rest in `engine/deform`.

    `kind` names the class in files; `config()` (plain JSON) and `tensors()` are all that a file stores, and
    `from_parts(config, tensors)` rebuilds the same deformation bit for bit.
    """

    kind: ClassVar[str]

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time in seconds; differentiable in both the Gaussians and the deformation."""
        ...

    def config(self) -> dict[str, Any]: ...

    def tensors(self) -> dict[str, Tensor]: ...

    def to(self, device: torch.device | str) -> Deformation:
        """The same deformation on another device (a copy; the original stays where it is)."""
        ...

    def take(self, index: Tensor) -> Deformation:
        """The motion of Gaussians index[i]; `index` is long [M], repeats allowed.

        A deformation that depends on a Gaussian's values alone returns itself; one that stores something for each
        Gaussian returns its rows. So motion survives Gaussians being added, removed or relocated.
        """
        ...

    def trainable(self) -> Deformation | None:
        """The part that an optimizer may change in place; None where there is nothing to train.

        A wrapper returns its inner deformation's. How a part is trained is registered by its `kind`, see
        engine/train/motion.py.
        """
        ...


class Static:
    """No motion: the same Gaussians at every time."""

    kind: ClassVar[str] = "still"

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        return gaussians

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def to(self, device: torch.device | str) -> Static:
        return self

    def take(self, index: Tensor) -> Static:
        return self

    def trainable(self) -> None:
        return None

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Static:
        return cls()


@dataclass(frozen=True, eq=False)
class Scene4D:
    """Everything needed to show, edit, train on or share a moving scene. Steps return a new one; none is changed."""

    canonical: Gaussians
    deformation: Deformation
    times: (
        Tensor  # [T] float64 seconds: the captured frames; anything between first and last may be asked for
    )
    rig: Cameras  # the captured cameras, [V]
    bounds: Tensor  # [2, 3] float64: minimum and maximum corner of the subject, world units
    background: Tensor  # [3] float32 in 0..1
    history: tuple[dict[str, Any], ...] = ()  # one entry a step: {"step", "config", …}, plain JSON

    @staticmethod
    def still(
        canonical: Gaussians, times: Tensor, rig: Cameras, bounds: Tensor, background: Tensor
    ) -> Scene4D:
        """A scene without motion."""
        return Scene4D(canonical, Static(), times, rig, bounds, background)

    def at(self, seconds: float) -> Gaussians:
        """The Gaussians at a time in seconds (pre-activation, differentiable)."""
        return self.deformation.deform(self.canonical, seconds)

    @property
    def duration(self) -> float:
        """Seconds between the first and the last frame."""
        return float(self.times[-1] - self.times[0])

    @property
    def device(self) -> torch.device:
        return self.canonical.device

    def to(self, device: torch.device | str) -> Scene4D:
        """The scene's Gaussians and deformation on another device (rig, times and bounds stay on the CPU)."""
        return replace(
            self,
            canonical=self.canonical.map(lambda t: t.to(device)),
            deformation=self.deformation.to(device),
        )

    def with_(self, **changed: Any) -> Scene4D:
        return replace(self, **changed)

    def last_entry(self, *steps: str) -> dict[str, Any] | None:
        """The newest line of history that one of these steps wrote; None where there is none."""
        return next((entry for entry in reversed(self.history) if entry.get("step") in steps), None)

    def with_history(self, step: str, **entry: Any) -> Scene4D:
        """The same scene with one more line of history."""
        return replace(self, history=(*self.history, {"step": step, **entry}))

    def summary(self) -> str:
        """One line about the scene."""
        return (
            f"{len(self.canonical)} Gaussians, {len(self.times)} frames, {self.duration:.2f} s, {len(self.rig)} cameras, "
            f"motion: {self.deformation.kind}"
        )
