"""Rounds of editing images and fitting the Gaussians to them, as one resumable `Optimization` (see `loop`).

A step is a denoising step or a fitting step. Subclasses say what a round edits and how it is fitted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..messages import Stream
from ..scene import Gaussians, Scene4D, ViewSet
from . import state as states
from .loop import Losses, PaceConfig, optimize, resume
from .view_edit import Steps, ViewEditing
from .view_fit import ViewFit


class EditRounds(ABC):
    """Edits images, fits the Gaussians of `scene` to them, and does so again in each further round.

    Args:
        scene: The scene to change.
        device: Device to render and fit on.
        count: Rounds.
    """

    # the step as in STEPS, for histories and checkpoints
    step_name: str

    def __init__(self, scene: Scene4D, device: torch.device | str, count: int) -> None:
        self.before, self.scene = scene, scene.to(device)
        self.device, self.count = device, count
        self.round, self.calls = 0, 0
        self.current = self.scene
        # images of the round that is fitted, and what its edit says of itself
        self.views: ViewSet | None = None
        self.about: dict[str, Any] | None = None
        self.fit: ViewFit | None = None
        self.editing: ViewEditing = self._editing()
        self._fit_if_edited()
        self.checkpointed = states.Checkpointed(self, self.identity)

    @abstractmethod
    def _editing(self) -> ViewEditing:
        """The edit of the round under way."""

    @abstractmethod
    def _edit_steps(self, round_index: int) -> int:
        """Denoising steps of a round."""

    @property
    @abstractmethod
    def fit_iterations(self) -> int:
        """Fitting steps of one round."""

    @abstractmethod
    def _fit(self, views: ViewSet) -> ViewFit:
        """The fit of the round under way to its edited images."""

    @abstractmethod
    def result(self) -> Scene4D:
        """The scene as edited so far."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """What a checkpoint belongs to, as plain JSON."""

    # -- the optimization ---------------------------------------------------------------------------------------------

    def stream(
        self,
        pace: PaceConfig,
        note: str,
        checkpoint: Path | None,
        clock: Callable[[], float] = time.monotonic,
        begun: float | None = None,
    ) -> Stream:
        """All rounds as messages, resumed if `checkpoint` belongs to this run. `begun`: the clock when the work began."""
        resumed = resume(self, checkpoint)
        steps = Steps(self.total, pace.preview_every, pace.checkpoint_seconds, pace.max_seconds)
        note = f"resumed at step {self.iteration}; {note}" if resumed else note
        note = "\n".join(filter(None, (note, self.editing.note)))
        yield from optimize(self, steps, note, checkpoint, clock, begun)

    @property
    def total(self) -> int:
        return sum(self._edit_steps(i) + self.fit_iterations for i in range(self.count))

    def __len__(self) -> int:
        return len(self.current.canonical)

    @property
    def is_finished(self) -> bool:
        return self.round >= self.count

    @property
    def iteration(self) -> int:
        done = sum(self._edit_steps(i) + self.fit_iterations for i in range(self.round))
        if self.is_finished:
            return done
        if self.fit is None:
            return done + self.editing.iteration
        return done + self._edit_steps(self.round) + self.fit.iteration

    def step(self) -> Losses:
        if self.fit is not None:
            losses = self.fit.step()
            if self.fit.iteration >= self.fit_iterations:
                self._leave_round()
            return losses
        losses = self.editing.step()
        self._fit_if_edited()
        return losses

    def _fit_if_edited(self) -> None:
        """Go on to the fit where the edit of the round is done: at once, if nothing of the selection is visible."""
        if self.editing.edit.is_finished:
            self.views = self.editing.result()
            self.about = self.views.edit
            self.calls += self.editing.edit.calls
            self.fit = self._fit(self.views)

    def _leave_round(self) -> None:
        self.current = self.current.with_(canonical=self.canonical)
        self.round, self.fit = self.round + 1, None
        if not self.is_finished:
            self.editing = self._editing()
            self._fit_if_edited()

    @property
    def canonical(self) -> Gaussians:
        """The Gaussians as fitted so far."""
        return self.current.canonical if self.fit is None else self.fit.result().canonical

    def preview(self) -> Tensor:
        """The images under way: originals over edits, or an edited image beside the scene as it is."""
        return self.editing.preview() if self.fit is None else self.fit.preview()

    def trained(self) -> Mapping[str, Tensor]:
        if self.fit is not None:
            return self.fit.trained()
        # what the last step of a fit left is looked at in the next round
        fitted = {f"fitted.{name}": tensor for name, tensor in self.current.canonical.tensors().items()}
        return {**self.editing.trained(), **fitted}

    # -- the checkpoint -----------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        inner = self.editing.edit if self.fit is None else self.fit
        tensors, numbers = inner.state()
        named = {f"inner.{name}": t for name, t in tensors.items()}
        named |= {f"canonical.{name}": t for name, t in self.current.canonical.tensors().items()}
        if self.fit is not None and self.views is not None:
            named["images"] = self.views.images
        about = {"round": self.round, "fits": self.fit is not None, "calls": self.calls, "edit": self.about}
        return named, {**about, "inner": numbers}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        canonical = {n: tensors[f"canonical.{n}"].to(self.device) for n in self.scene.canonical.tensors()}
        self.current = self.scene.with_(canonical=self.scene.canonical.with_(**canonical))
        self.round, self.calls = int(numbers["round"]), int(numbers["calls"])
        self.fit, self.about = None, numbers["edit"]
        if self.is_finished:
            return
        self.editing = self._editing()
        # edit and fit bring it to their devices themselves, but for the state of random numbers
        inner = states.part(tensors, "inner")
        if not numbers["fits"]:
            self.editing.edit.load_state(inner, numbers["inner"])
            return
        self.views = replace(self.editing.uncropped, images=tensors["images"], edit=self.about)
        self.fit = self._fit(self.views)
        self.fit.load_state(inner, numbers["inner"])

    def save(self, path: Path) -> None:
        self.checkpointed.save(path)

    def resume(self, path: Path) -> bool:
        return self.checkpointed.resume(path)
