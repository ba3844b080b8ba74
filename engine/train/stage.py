"""The base of every optimization of Gaussians: messages, selection, and checkpoints.

A stage defines the loss of a step and what is trained; `loop` runs it. Random numbers come from one seeded generator, so
that a resumed run ends on the CPU with the same bits.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
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
from . import state as states
from .feeding import STEPS, Feed, Pair
from .loop import LoopConfig, Losses, optimize, resume
from .ranks import ALONE, Ranks
from .time_limit import TimeLimit


class Part(Protocol):
    """Something of a stage that changes while it runs."""

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue, on the CPU with the same bits."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        ...


class TrainConfig(LoopConfig, Protocol):
    """What a stage's Config must say."""

    @property
    def rasterizer(self) -> str: ...
    @property
    def seed(self) -> int: ...


class SelectionConstraint:
    """Applies a selection: a Gaussian of weight 0 keeps its values bit for bit, one of weight w takes w of each step.

    The latter follows more slowly, and its neighbors fit around it.
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
    """An `Optimization` (see `loop`) with a checkpoint; it may be limited by a selection."""

    # the step's name in STEPS, for the history
    step_name: str
    # the processes that share the work
    ranks: Ranks = ALONE
    # a remark on the prompt for the user
    prompt_note: str = ""

    def __init__(self, config: TrainConfig, selection: Selection | None, device: torch.device | str) -> None:
        self.config, self.selection, self.device = config, selection, torch.device(device)
        self.rasterizer = choose(config.rasterizer, self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        # created once the trained tensors exist
        self.constraint: SelectionConstraint | None = None
        self.iteration = 0
        self.limit = TimeLimit(config)
        # a stage that reads a capture puts its own here
        self.feed = Feed(None)
        self.checkpointed = states.Checkpointed(self, self.identity)

    def constrain(self, origin: Tensor | None = None) -> None:
        """Restrict the trained tensors to the selection, if there is one.

        `origin` [N] long is the Gaussian of the selection that each one descends from; None where none were added.
        """
        if self.selection is not None:
            tensors = self.learning()
            first = next(iter(tensors.values()))
            weights = self.selection.weights.detach().to(self.device, first.dtype)
            self.constraint = SelectionConstraint(weights if origin is None else weights[origin], tensors)

    def constrained(self) -> AbstractContextManager[None]:
        """A context for an optimizer step; it undoes changes that the selection does not allow."""
        return nullcontext() if self.constraint is None else self.constraint.around_step(self.learning())

    @abstractmethod
    def learning(self) -> Mapping[str, Tensor]:
        """The trained tensors with one row per Gaussian, by name."""

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
        """The reason why there is nothing to do, else empty."""
        nothing = self.constraint is not None and len(self.constraint.held) == len(self)
        return "the mask does not select any Gaussian" if nothing else ""

    def stream(
        self,
        note: str,
        checkpoint: Path | None,
        clock: Callable[[], float] = time.monotonic,
        begun: float | None = None,
        note_at_start: str = "",
    ) -> Stream:
        """The whole stage as messages, resumed if `checkpoint` belongs to this run.

        Args:
            note: What is done, for the first message.
            checkpoint: Where unfinished work is kept; None keeps none.
            clock: Seconds, for the limits and intervals of the config.
            begun: The clock when the work began, from which `max_seconds` counts; None = now.
            note_at_start: An addition for a run that is not resumed.
        """
        if self.idle:
            yield Started(1, f"{self.idle}: nothing to do")
            yield Finished(self.result())
            return
        if self.feed.is_active or self.ranks.size > 1:
            preparing = clock()
            # the first process of a machine prepares frames for the others there
            for is_first in (True, False) if self.ranks.size > 1 else (True,):
                if self.feed.is_active and is_first == (self.ranks.local == 0):
                    yield from self.feed.prepare(self.captured())
                self.ranks.wait()
            # frames stay prepared, so that their time is not the training's
            begun = None if begun is None else begun + clock() - preparing
        resumed = resume(self, checkpoint)
        if not resumed and checkpoint is not None and checkpoint.is_file():
            other = (
                f"{checkpoint.name} belongs to a run with other inputs or settings, so this one starts over"
            )
            note_at_start = "; ".join(filter(None, (other, note_at_start)))
        where = f"resumed at step {self.iteration}" if resumed else note_at_start
        note = "; ".join(filter(None, (where, note, f"{self.rasterizer.name} rasterizer on {self.device}")))
        note = "\n".join(filter(None, (note, self.prompt_note, self.feed.note)))
        self.limit = TimeLimit(self.config, clock, begun)
        try:
            kept = checkpoint if self.ranks.leads or self.ranks.is_sharded else None
            yield from optimize(self, self.config, note, kept, clock, limit=self.limit)
        finally:
            self.feed.close()

    def captured(self) -> Sequence[Pair]:
        """The captured frames that steps may read; none where a stage does not read a capture."""
        return ()

    def wanted(self, step: int) -> Sequence[Pair]:
        """The captured frames that the step of this number will read; see `draws`."""
        return ()

    def read_ahead(self) -> None:
        """Let the frames of this step and the next ones be read."""
        if self.feed.is_active:
            steps = range(self.iteration, min(self.iteration + STEPS, self.config.iterations))
            self.feed.expect([pair for step in steps for pair in self.wanted(step)])

    @abstractmethod
    def step(self) -> Losses:
        """Render, compare, `backward`, `learn`; returns the losses."""

    @abstractmethod
    def preview(self) -> Tensor: ...

    @abstractmethod
    def result(self) -> Any: ...

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """History entries beyond the config: prompt, model, counts."""

    @abstractmethod
    def inputs(self) -> list[Any]:
        """All inputs of the stage except config and selection; see `input_identity`."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """What changes while the stage runs, by the name under which a checkpoint stores it."""

    # -- the checkpoint -----------------------------------------------------------------------------------------------

    def identity(self) -> list[Any]:
        """What a checkpoint belongs to: this step, these inputs, this config, this engine."""
        inputs = states.identity(self.config, self.selection, *self.inputs())
        return [self.step_name, *inputs, self.rasterizer.name, __version__]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = states.joined(**{name: part.state() for name, part in self.parts().items()})
        tensors["generator"] = self.generator.get_state()
        return tensors, {"iteration": self.iteration}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state(states.part(tensors, name, self.device))
        self.generator.set_state(tensors["generator"])
        self.iteration = int(numbers["iteration"])

    def save(self, path: Path) -> None:
        self.checkpointed.save(path)

    def resume(self, path: Path) -> bool:
        return self.checkpointed.resume(path)

    # -- the history --------------------------------------------------------------------------------------------------

    def entry(self) -> dict[str, Any]:
        """The history entry of this stage."""
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
        if self.limit.ending:
            said["ending"] = self.limit.ending
        return said


def _at(tensors: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {name: tensor.detach()[index].clone() for name, tensor in tensors.items()}
