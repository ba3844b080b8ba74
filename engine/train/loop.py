"""The loop of every long optimization: messages, previews, checkpoints, and what happens when it is closed.

Reading a number from a GPU makes the CPU wait for all work before it, so on a GPU the losses, and whether what is trained
is finite, are read every `READ_EVERY` steps only, and before every preview, save and result. NaN is therefore noticed at
most `READ_EVERY` - 1 steps late, and never saved or shown. On the CPU both are read after every step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import as_record
from ..finite import LaterChecks, first_not_finite
from ..messages import Finished, Preview, Progress, Saved, Started, Stream
from .ranks import current
from .time_limit import TimeLimit

log = logging.getLogger("gs4d")
# fields of a Config that change no result
QUIET = {"max_seconds", "checkpoint_seconds", "preview_every", "force"}
# steps on a GPU between two readings
READ_EVERY = 10
# of one step, by name; a tensor [] stays on its device until it is read
Losses = Mapping[str, Tensor | float]


def shaping(config: Any) -> dict[str, Any]:
    """The config's fields that decide the result, by id: all except those that only control saving, previews and stopping."""
    return {name: value for name, value in as_record(config).items() if name not in QUIET}


class PaceConfig(Protocol):
    """The fields of a Config that control previews, checkpoints and time."""

    @property
    def preview_every(self) -> int: ...
    @property
    def checkpoint_seconds(self) -> float: ...
    @property
    def max_seconds(self) -> float: ...


class LoopConfig(PaceConfig, Protocol):
    """The fields of a Config that control the loop."""

    @property
    def iterations(self) -> int: ...


class Optimization(Protocol):
    """An optimization whose whole state can be saved between two steps."""

    @property
    def iteration(self) -> int:
        """Steps done."""
        ...

    def __len__(self) -> int:
        """How many Gaussians there are now."""
        ...

    def step(self) -> Losses:
        """One step; returns the losses, as tensors where reading them would wait for a GPU."""
        ...

    def preview(self) -> Tensor:
        """[H, W, 3] on the CPU."""
        ...

    def result(self) -> Any:
        """The result so far, independent of the optimizer."""
        ...

    def trained(self) -> Mapping[str, Tensor]:
        """Every tensor that a step changes, by name."""
        ...

    def save(self, path: Path) -> None: ...

    def resume(self, path: Path) -> bool:
        """Continue from a checkpoint of this run; False where there is none."""
        ...


def optimize(
    run: Optimization,
    pace: LoopConfig,
    note: str,
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    start: float | None = None,
    limit: TimeLimit | None = None,
) -> Stream:
    """Started(note), then steps with Progress, Preview and Saved, then Finished(run.result()).

    With `checkpoint`, the state is saved there every `checkpoint_seconds` and when the generator is closed; a `run` that
    resumes from it ends on the CPU with the same bits as an uninterrupted one. The file is removed when the generator is resumed
    after Finished: a caller that fails to save the result closes the generator there, and the file stays. `max_seconds` counts
    from `start` on the clock (default: now), or as `limit` does; the last message says where time ended the run. Progress holds
    the losses that were read last. Raises InputError where NaN or infinite values are read; the last checkpoint before them
    stays.
    """
    limit = TimeLimit(pace, clock, start) if limit is None else limit
    yield Started(pace.iterations, note)
    readings = _Readings(run)
    saves = None if checkpoint is None else _Checkpoints(run, checkpoint, pace.checkpoint_seconds, clock)
    whole = True
    try:
        while run.iteration < pace.iterations:
            whole = False
            readings.step(is_last=run.iteration + 1 >= pace.iterations)
            whole = True
            limit.tick(run.iteration)
            yield from _reports(run, pace, readings, saves, limit.remaining)
            if limit.is_over(run.iteration):
                break
        readings.check()
    except BaseException:
        # Closed, interrupted or failed between two steps: keep what was trained. Within a step, the state is not whole,
        # and the last checkpoint stays, as it does where steps that were not read left NaN.
        if (
            saves is not None
            and whole
            and saves.is_behind
            and saves.is_agreed
            and not readings.bad_anywhere()
        ):
            run.save(saves.path)
        raise
    # first, since making the result may take more memory than there is
    if saves is not None and saves.is_behind:
        saves.save()
    made = run.result()
    goes_on = "run it again to go on" if limit.ending and saves is not None else ""
    yield Finished(made, "; ".join(filter(None, (limit.ending, goes_on))))
    if checkpoint is not None and run.iteration >= pace.iterations and current().leads:
        # a checkpoint that cannot be removed does no harm
        with suppress(OSError):
            checkpoint.unlink()


def _reports(
    run: Optimization, pace: LoopConfig, readings: _Readings, saves: _Checkpoints | None, total: int
) -> Stream:
    """The messages after a step: Progress, then Preview and Saved where they are due."""
    shows = pace.preview_every > 0 and run.iteration % pace.preview_every == 0
    if shows:
        readings.read()
    yield Progress(run.iteration, readings.losses, len(run), total)
    if shows:
        yield Preview(run.preview(), run.iteration)
    if saves is not None and saves.is_due():
        readings.check()
        if saves.save():
            yield Saved(str(saves.path), run.iteration)


class _Readings:
    """The losses of a run, and whether what it trains is finite, as they were read last."""

    def __init__(self, run: Optimization) -> None:
        self.run = run
        self.losses: dict[str, float] = {}
        # of the last step, not read yet
        self._latest: Losses = {}
        # the step after which the state was found finite
        self._checked = run.iteration
        # of models' outputs since then: NaN there reaches the trained tensors
        self._later = LaterChecks()

    def step(self, is_last: bool) -> None:
        """One step, read where that is due. InputError where it produces NaN or infinite values."""
        number = self.run.iteration + 1
        try:
            with self._later.collecting():
                self._latest = self.run.step()
        except (ArithmeticError, RuntimeError, ValueError) as error:
            # an operation that fails on NaN names neither the step nor the remedy
            self._refuse(self.bad(), number, error)
            raise
        waits = any(isinstance(loss, Tensor) and loss.device.type != "cpu" for loss in self._latest.values())
        if is_last or not waits or not self.losses or self.run.iteration - self._checked >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Bring losses and check up to date; does nothing where they are."""
        self.check()
        tensors = {name: loss for name, loss in self._latest.items() if isinstance(loss, Tensor)}
        known = {name: loss for name, loss in self._latest.items() if not isinstance(loss, Tensor)}
        # one transfer for all of a device: a model may have another one than the scene
        for device in {loss.device for loss in tensors.values()}:
            there = {name: loss for name, loss in tensors.items() if loss.device == device}
            known |= dict(zip(there, torch.stack(list(there.values())).tolist(), strict=True))
        self._latest = self.losses = {name: known[name] for name in self._latest}

    def check(self) -> None:
        """InputError where a step since the last check produced NaN or infinite values."""
        if self._checked == self.run.iteration:
            return
        self._refuse(self.bad_anywhere(), self.run.iteration)
        self._checked = self.run.iteration
        self._later.checks.clear()

    def bad(self) -> str:
        """The name of the first trained tensor that holds NaN or infinite values; empty where all are finite."""
        return first_not_finite(self.run.trained())

    def bad_anywhere(self) -> str:
        """`bad`, also of the Gaussians of other processes; all of them have to ask."""
        return current().any_of(self.bad())

    def _refuse(self, bad: str, step: int, cause: Exception | None = None) -> None:
        if not bad:
            return
        self._later.read()
        first = self._checked + 1
        which = f"Step {step}" if first >= step else f"One of the steps {first} to {step}"
        raise InputError(
            "TRN-009",
            f"{which} produced NaN or infinite values in '{bad}', so the run stopped without saving. Run it again with "
            "lower learning rates.",
        ) from cause


class _Checkpoints:
    """When a run was last saved, and whether that is still its newest state."""

    def __init__(self, run: Optimization, path: Path, seconds: float, clock: Callable[[], float]) -> None:
        self.run, self.path, self.seconds, self.clock = run, path, seconds, clock
        self.saved_at, self.saved_iteration = clock(), run.iteration

    @property
    def is_agreed(self) -> bool:
        """Whether all processes save now, if a run is closed: where each has some of the Gaussians, one cannot save alone."""
        return current().is_stopping or not current().is_sharded

    @property
    def is_behind(self) -> bool:
        """Whether steps were done since the last save."""
        return self.run.iteration > self.saved_iteration

    def is_due(self) -> bool:
        """Whether the interval has passed; the next one starts then."""
        if not current().agreed(self.clock() - self.saved_at > self.seconds):
            return False
        self.saved_at = self.clock()
        return True

    def save(self) -> bool:
        """Save; False with a warning where that fails, since a full disk must not lose what is in memory."""
        try:
            self.run.save(self.path)
            is_saved = True
        except InputError as error:
            log.warning("%s Training continues without a checkpoint.", error)
            is_saved = False
        is_saved = current().agreed(is_saved)
        if is_saved:
            self.saved_iteration = self.run.iteration
        return is_saved


def resume(run: Optimization, checkpoint: Path | None) -> bool:
    """Continue from `checkpoint` if it belongs to this run. Raises InputError where it is damaged."""
    if checkpoint is None:
        return False
    anew = "delete it to start over."
    try:
        resumed = run.resume(checkpoint)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise InputError(
            "TRN-007",
            f"{checkpoint.name} is damaged and cannot be resumed ({type(error).__name__}: {error}); {anew}",
        ) from error
    # all processes refuse, also where only one of them has such rows
    if resumed and (bad := current().any_of(first_not_finite(run.trained()))):
        raise InputError("TRN-008", f"{checkpoint.name} contains NaN or infinite values in '{bad}'; {anew}")
    return resumed
