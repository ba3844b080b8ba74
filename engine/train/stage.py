"""What every optimisation of a finished scene has in common: its messages, its selection, what its checkpoint belongs to.

A stage says what one step's loss is and what learns; `loop` runs it. Random numbers come from one seeded generator, so
that a resumed run ends with the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import __version__
from ..fields import as_record
from ..messages import Finished, Started, Stream
from ..render import choose
from ..scene import Selection
from .loop import LoopConfig, optimize, resume


class TrainConfig(LoopConfig, Protocol):
    """What a stage's Config must say."""

    @property
    def rasterizer(self) -> str: ...
    @property
    def seed(self) -> int: ...


class SelectionConstraint:
    """What a selection allows: a Gaussian of weight 0 keeps its values bit for bit, one of weight w takes w of each step.

    The latter follows more slowly, and its neighbours fit around it.
    """

    def __init__(self, weights: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """`weights` [N] in 0..1; `tensors` are those that learn, each [N, …]."""
        self.held = (weights <= 0).nonzero().flatten()
        self.slowed = ((weights > 0) & (weights < 1)).nonzero().flatten()
        self.share = weights[self.slowed]
        self.original = _at(tensors, self.held)

    @contextmanager
    def around_step(self, tensors: Mapping[str, Tensor]) -> Generator[None, None, None]:
        """Undoes, in place, what a step inside does to `tensors` beyond what is allowed."""
        before = _at(tensors, self.slowed)
        yield
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor[self.held] = self.original[name]
                part = self.share.view(-1, *[1] * (tensor.ndim - 1))
                tensor[self.slowed] = torch.lerp(before[name], tensor[self.slowed], part)


class TrainStage(ABC):
    """An `Optimization` (see `loop`) that starts from something finished and may be limited by a selection."""

    step_name: str  # as in STEPS: for the history
    prompt_note: str = ""  # what the artist should know of the prompt, where there is one

    def __init__(self, config: TrainConfig, selection: Selection | None, device: torch.device | str) -> None:
        self.config, self.selection, self.device = config, selection, torch.device(device)
        self.rasterizer = choose(config.rasterizer, self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.constraint: SelectionConstraint | None = None  # made once the tensors that learn are there
        self.iteration = 0

    def constrain(self) -> None:
        """Hold what learns to the selection, where there is one."""
        if self.selection is not None:
            tensors = self.learning()
            first = next(iter(tensors.values()))
            weights = self.selection.weights.detach().to(self.device, first.dtype)
            self.constraint = SelectionConstraint(weights, tensors)

    def constrained(self) -> AbstractContextManager[None]:
        """Around an optimiser's step: what the selection does not allow is undone."""
        return nullcontext() if self.constraint is None else self.constraint.around_step(self.learning())

    @abstractmethod
    def learning(self) -> Mapping[str, Tensor]:
        """The tensors that learn and have a row for each Gaussian, by name."""

    @abstractmethod
    def trained(self) -> Mapping[str, Tensor]:
        """Everything that a step changes, by name."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def progress(self) -> float:
        return self.iteration / self.config.iterations

    @property
    def idle(self) -> str:
        """Why there is nothing to do; empty where there is something."""
        nothing = self.constraint is not None and len(self.constraint.held) == len(self)
        return "the mask selects no Gaussian" if nothing else ""

    def stream(self, note: str, checkpoint: Path | None) -> Stream:
        """The whole stage as messages, resumed where `checkpoint` is of this very work."""
        if self.idle:
            yield Started(1, f"{self.idle}: nothing to do")
            yield Finished(self.result())
            return
        if resume(self, checkpoint):
            note = f"resumed at step {self.iteration}; {note}"
        note = f"{note}; {self.rasterizer.name} rasterizer on {self.device}"
        note = "\n".join(filter(None, (note, self.prompt_note)))
        yield from optimize(self, self.config, note, checkpoint)

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Render, compare, `backward`, `learn`; returns the losses."""

    @abstractmethod
    def preview(self) -> Tensor: ...

    @abstractmethod
    def result(self) -> Any: ...

    @abstractmethod
    def save(self, path: Path) -> None: ...

    @abstractmethod
    def resume(self, path: Path) -> bool: ...

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """What the history says beyond the config: prompt, model, counts."""

    @abstractmethod
    def inputs(self) -> list[Any]:
        """Plain JSON that identifies the stage's own inputs: part of a checkpoint's key."""

    def entry(self) -> dict[str, Any]:
        """The history's words that every stage says of itself."""
        config: Any = self.config
        said = {
            "config": as_record(config),
            **self.metadata(),
            "iterations": self.iteration,
            "engine": __version__,
        }
        if self.selection is not None:
            said["selected"] = int((self.selection.weights > 0).sum())
        if self.prompt_note:
            said["note"] = self.prompt_note
        return said


def _at(tensors: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {name: tensor.detach()[index].clone() for name, tensor in tensors.items()}
