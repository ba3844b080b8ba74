"""The interface between the training loop and a trained motion, and the registry of motions.

To add one: subclass `TrainableMotion`, and `register` it under a name for the training's `motion` option. Where an edit
may train a finished deformation on, `register_trainer` for its kind as well. The built-in motions are registered in
motions.py; a package outside the engine calls the same two functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..heads import Head
from ..scene import Deformation, Gaussians, MultiViewVideo, Scene4D
from .parameters import GaussianParameters, Lineage

if TYPE_CHECKING:
    from .normalization import Normalization


# rows of a tensor along an axis, or None for flags of which none is set → on the CPU, those of all processes
Collected = Callable[[Tensor | None, int], Tensor]


def on_cpu(tensor: Tensor | None, axis: int) -> Tensor:
    """The rows of one process that has all Gaussians; no rows for None."""
    return torch.zeros(0, dtype=torch.bool) if tensor is None else tensor.detach().cpu()


class TrainableMotion(ABC):
    """A deformation while it is trained, with its own parameters and optimizer.

    Gaussians are in the training's normalized world. What is optimized of them are the "trained values": the canonical
    Gaussians themselves, unless a motion keeps them in coordinates of its own (relative to a mesh, for example).

    Example:
        register("my_motion", MyMotion)
        fit_scene.run(video, fit_scene.Config(motion="my_motion"))
    """

    # size of one unit of trained positions in the normalized world: position rates are divided by it
    position_unit: float = 1.0
    # whether a coarse stage first fits one static scene to all frames; otherwise the motion takes part from the start
    has_coarse_stage: ClassVar[bool] = True
    # where processes divide the Gaussians: the axis of `trained` tensors with one entry for each Gaussian; None = they have none
    row_axis: ClassVar[int | None] = None
    # and whether `loss` is a mean over Gaussians
    loss_is_mean: ClassVar[bool] = False

    def to_trained(self, canonical: Gaussians) -> Gaussians:
        """The values to optimize for these canonical Gaussians."""
        return canonical

    def to_canonical(self, trained: Gaussians) -> Gaussians:
        """The inverse of `to_trained`; differentiable."""
        return trained

    def groups(self) -> Tensor | None:
        """[N] long: groups of Gaussians of which density control must leave at least one each; None = no groups."""
        return None

    @abstractmethod
    def deform(self, trained: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time; differentiable in the trained values and the motion's parameters.

        Args:
            trained: The trained values of N Gaussians.
            seconds: The time in seconds.

        Returns:
            N Gaussians in the normalized world.
        """

    def loss(self) -> Tensor | None:
        """The motion's own term of the loss, with its weight (smoothness, for example); None = no term."""
        return None

    @abstractmethod
    def step(self, progress: float) -> None:
        """One step of the motion's optimizer after `backward`; drops the gradients.

        Args:
            progress: Fraction of the training that is done, 0..1; sets the learning rates.
        """

    def after_step(  # noqa: B027
        self, parameters: GaussianParameters, iteration: int, progress: float
    ) -> None:
        """Called at the end of each step in which the motion took part, after density control.

        Args:
            parameters: The Gaussians' parameters.
            iteration: Steps done.
            progress: Fraction of the training that is done, 0..1.
        """

    @abstractmethod
    def after_density(self, change: Lineage, part: Deformation | None = None) -> None:
        """Called whenever Gaussians were added, removed or relocated, coarse stage included.

        Args:
            change: The lineage; a motion that stores something for each Gaussian keeps its rows `change.parents`.
            part: The trained deformation after `take`, where an edit trains a finished one (see `register_trainer`).
        """

    @abstractmethod
    def trained(self) -> Mapping[str, Tensor]:
        """Every tensor that the optimizer changes, by name."""

    def optimized(self) -> list[Tensor]:
        """The parameters that the optimizer steps, in a fixed order: several processes sum their gradients. Those of `trained`,
        unless a motion gives parts of larger parameters there."""
        return list(self.trained().values())

    @abstractmethod
    def finished(self, world: Normalization, collected: Collected = on_cpu) -> Deformation:
        """The trained deformation, a copy on the CPU.

        Args:
            world: The training's normalized world; the result is in the capture's units.
            collected: Gives the rows of all processes for those of this one, along an axis; only where processes divide the
                Gaussians (see `rows`).
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, on the CPU with the same bits: parameters and the optimizer's memory."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`. Raises LookupError or ValueError where the tensors do not fit."""

    def rows(self) -> Mapping[str, int | None] | None:
        """What `state` stores for each Gaussian, where processes can divide them: the axis of each name.

        An axis of None: not kept, since it is computed anew. Without this method, processes cannot divide the Gaussians.
        """
        return None


@dataclass(frozen=True, eq=False)
class MotionStart:
    """What a training knows when its motion is made."""

    # the training's FitConfig; not named here, since its options are this registry's names
    config: Any
    video: MultiViewVideo
    world: Normalization
    canonical: Gaussians  # the first Gaussians, normalized, on the training's device
    generator: torch.Generator  # the training's own, on the CPU
    head: Head | None = None  # what the Gaussians are bound to
    # the scene that training starts from, in world units; `canonical` are its Gaussians
    scene: Scene4D | None = None


Create = Callable[[MotionStart], TrainableMotion]
Trainer = Callable[[Deformation, Tensor], TrainableMotion]

# "none" and every registered name. The Config's field holds this list itself, so later ones can be chosen too.
NAMES = ["none"]
_motions: dict[str, Create] = {}
_trainers: dict[str, Trainer] = {}
# by kind of deformation: names of the motions that it continues as, and how
_continued: dict[str, tuple[tuple[str, ...], Create]] = {}


def register(name: str, create: Create) -> None:
    """Make a motion available as an option of the training. Raises ValueError where the name is taken."""
    if name in NAMES:
        raise ValueError(f"A motion called '{name}' is registered already.")
    _motions[name] = create
    NAMES.append(name)


def register_trainer(kind: str, trainer: Trainer) -> None:
    """Say how edits train finished deformations of a `kind`. Raises ValueError where that is said already.

    `trainer(part, times)` gets the deformation and the scene's frame times [T] in seconds, and trains `part` in place.
    """
    if kind in _trainers:
        raise ValueError(f"Deformations of the kind '{kind}' have a trainer already.")
    _trainers[kind] = trainer


def register_start(kind: str, names: tuple[str, ...], create: Create) -> None:
    """Say how a training starts from a scene whose deformation is of a `kind`. Raises ValueError where that is said already.

    Args:
        kind: The deformation's kind.
        names: Motions of the training's `motion` option that go on from it.
        create: Makes the motion from a `MotionStart` with a `scene`.
    """
    if kind in _continued:
        raise ValueError(f"Trainings from deformations of the kind '{kind}' are defined already.")
    _continued[kind] = names, create


def unregister(name: str) -> None:
    """Take a motion's name, or what is registered for a kind of that name, away again."""
    if name in _motions:
        del _motions[name]
        NAMES.remove(name)
    _trainers.pop(name, None)
    _continued.pop(name, None)


def find(name: str) -> Create:
    """How the motion of that name is made. Raises LookupError where there is none."""
    return _motions[name]


def find_trainer(kind: str) -> Trainer | None:
    """How finished deformations of that kind are trained; None where nobody said it."""
    return _trainers.get(kind)


def find_start(kind: str) -> tuple[tuple[str, ...], Create] | None:
    """What `register_start` was given for that kind; None where nobody did."""
    return _continued.get(kind)


def freeze(deformation: Deformation) -> None:
    """No gradients for the deformation's own parameters; they still flow through it into the Gaussians."""
    part = deformation.trainable()
    if isinstance(part, nn.Module):
        part.requires_grad_(False)
