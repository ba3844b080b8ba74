"""A moving scene as one value: canonical Gaussians, a deformation, times, rig, bounds, history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from .cameras import AT_ZERO, Cameras, in_words
from .gaussians import Gaussians


@runtime_checkable
class Deformation(Protocol):
    """Moves canonical Gaussians to a time.

    Implementations are `Static` here and the classes in `engine/deform`. `kind` names the class in files. `config()`
    (plain JSON) and `tensors()` are all that a file stores, and `from_parts(config, tensors)` rebuilds the same deformation
    bit for bit.
    """

    kind: ClassVar[str]

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time; differentiable in both the Gaussians and the deformation.

        Args:
            gaussians: The N canonical Gaussians.
            seconds: The time in seconds.

        Returns:
            N Gaussians, pre-activation.
        """
        ...

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is stored besides `config`, by name."""
        ...

    def to(self, device: torch.device | str) -> Deformation:
        """The same deformation on another device (a copy; the original stays where it is)."""
        ...

    def take(self, index: Tensor) -> Deformation:
        """The deformation of selected Gaussians, so that motion follows where Gaussians are added, removed or relocated.

        Args:
            index: The selected Gaussians, long [M]; repeats are allowed.

        Returns:
            Itself, where motion depends on a Gaussian's values alone; otherwise a deformation with the selected rows.
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
    """A moving scene: canonical Gaussians, their deformation, and the rig that captured them.

    It is never changed; steps return a new one.

    Example:
        scene = load_scene(Path("walker.safetensors"))
        gaussians = scene.at(0.5)
    """

    canonical: Gaussians
    deformation: Deformation
    # [T] float64 seconds: the captured frames; `at` also takes any time in between
    times: Tensor
    rig: Cameras  # the captured cameras, [V]
    bounds: Tensor  # [2, 3] float64: minimum and maximum corner of the subject, world units
    background: Tensor  # [3] float32 in 0..1
    # one entry per step: {"step", "config", …}, plain JSON
    history: tuple[dict[str, Any], ...] = ()

    @staticmethod
    def still(
        canonical: Gaussians, times: Tensor, rig: Cameras, bounds: Tensor, background: Tensor
    ) -> Scene4D:
        """A scene without motion.

        Args:
            canonical: The N Gaussians.
            times: Frame times [T] in seconds, float64, ascending.
            rig: The V captured cameras.
            bounds: Minimum and maximum corner [2, 3] of the subject in world units, float64.
            background: Color [3] in 0..1.
        """
        return Scene4D(canonical, Static(), times, rig, bounds, background)

    def at(self, seconds: float) -> Gaussians:
        """The Gaussians at a time.

        Args:
            seconds: The time in seconds.

        Returns:
            N Gaussians, pre-activation, differentiable in the canonical ones and the deformation.
        """
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
        """A copy with some fields replaced."""
        return replace(self, **changed)

    def last_entry(self, *steps: str) -> dict[str, Any] | None:
        """The newest history entry that one of these steps wrote; None where none did."""
        return next((entry for entry in reversed(self.history) if entry.get("step") in steps), None)

    def with_history(self, step: str, **entry: Any) -> Scene4D:
        """The same scene with one more history entry: the step's name and plain JSON values."""
        return replace(self, history=(*self.history, {"step": step, **entry}))

    def summary(self) -> str:
        """One line about the scene."""
        origin = "" if self.rig.origin == AT_ZERO else f", relative to {in_words(self.rig.origin)}"
        return (
            f"{len(self.canonical)} Gaussians, {len(self.times)} frames, {self.duration:.2f} s, {len(self.rig)} cameras, "
            f"motion: {self.deformation.kind}{origin}"
        )
