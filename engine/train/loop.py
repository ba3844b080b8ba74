"""The loop of every long optimization: messages, previews, checkpoints, and what happens when it is closed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import InputError
from ..fields import as_record
from ..finite import is_finite
from ..messages import Finished, Preview, Progress, Saved, Started, Stream

log = logging.getLogger("gs4d")
# fields of a Config that change no result
QUIET = {"max_seconds", "checkpoint_seconds", "preview_every", "force"}


def shaping(config: Any) -> dict[str, Any]:
    """The config's fields that decide the result, by id: all except those that only control saving, previews and stopping."""
    return {name: value for name, value in as_record(config).items() if name not in QUIET}


class LoopConfig(Protocol):
    """The fields of a Config that control the loop."""

    @property
    def iterations(self) -> int: ...
    @property
    def preview_every(self) -> int: ...
    @property
    def checkpoint_seconds(self) -> float: ...
    @property
    def max_seconds(self) -> float: ...


class Optimization(Protocol):
    """An optimization whose whole state can be saved between two steps."""

    @property
    def iteration(self) -> int:
        """Steps done."""
        ...

    def __len__(self) -> int:
        """How many Gaussians there are now."""
        ...

    def step(self) -> dict[str, float]:
        """One step; returns the losses."""
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
) -> Stream:
    """Started(note), then steps with Progress, Preview and Saved, then Finished(run.result()).

    With `checkpoint`, the state is saved there every `checkpoint_seconds` and when the generator is closed; a `run` that
    resumes from it ends with the same bits as an uninterrupted one. The file is removed when the generator is resumed after
    Finished: a caller that fails to save the result closes the generator there, and the file stays. `max_seconds` counts from
    `start` on the clock (default: now). Raises InputError after a step that left NaN or infinite values; the last
    checkpoint before it stays.
    """
    start = clock() if start is None else start
    yield Started(pace.iterations, note)
    saves = None if checkpoint is None else _Checkpoints(run, checkpoint, pace.checkpoint_seconds, clock)
    whole = True
    try:
        while run.iteration < pace.iterations:
            whole = False
            losses = _step(run)
            whole = True
            yield from _reports(run, pace, losses, saves)
            if pace.max_seconds and clock() - start > pace.max_seconds:
                break
    except BaseException:
        # Closed, interrupted or failed between two steps: keep what was trained. Within a step, the state is not whole,
        # and the last checkpoint stays.
        if saves is not None and whole and saves.is_behind:
            run.save(saves.path)
        raise
    made = run.result()
    if saves is not None and saves.is_behind:
        saves.save()
    yield Finished(made)
    if checkpoint is not None and run.iteration >= pace.iterations:
        # a checkpoint that cannot be removed does no harm
        with suppress(OSError):
            checkpoint.unlink()


def _reports(
    run: Optimization, pace: LoopConfig, losses: dict[str, float], saves: _Checkpoints | None
) -> Stream:
    """The messages after a step: Progress, then Preview and Saved where they are due."""
    yield Progress(run.iteration, losses, len(run))
    if pace.preview_every and run.iteration % pace.preview_every == 0:
        yield Preview(run.preview(), run.iteration)
    if saves is not None and saves.save_if_due():
        yield Saved(str(saves.path), run.iteration)


class _Checkpoints:
    """When a run was last saved, and whether that is still its newest state."""

    def __init__(self, run: Optimization, path: Path, seconds: float, clock: Callable[[], float]) -> None:
        self.run, self.path, self.seconds, self.clock = run, path, seconds, clock
        self.saved_at, self.saved_iteration = clock(), run.iteration

    @property
    def is_behind(self) -> bool:
        """Whether steps were done since the last save."""
        return self.run.iteration > self.saved_iteration

    def save_if_due(self) -> bool:
        """Save where the interval has passed; True where that worked."""
        if self.clock() - self.saved_at <= self.seconds:
            return False
        self.saved_at = self.clock()
        return self.save()

    def save(self) -> bool:
        """Save; False with a warning where that fails, since a full disk must not lose what is in memory."""
        try:
            self.run.save(self.path)
        except InputError as error:
            log.warning("%s Training continues without a checkpoint.", error)
            return False
        self.saved_iteration = self.run.iteration
        return True


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
    if resumed and (bad := _not_finite(run)):
        raise InputError("TRN-008", f"{checkpoint.name} contains NaN or infinite values in '{bad}'; {anew}")
    return resumed


def _step(run: Optimization) -> dict[str, float]:
    """One step; InputError where it produces NaN or infinite values."""
    number = run.iteration + 1
    try:
        losses = run.step()
    except (ArithmeticError, RuntimeError, ValueError) as error:
        # an operation that fails on NaN names neither the step nor the remedy
        _check(run, number, error)
        raise
    _check(run, number)
    return losses


def _check(run: Optimization, step: int, cause: Exception | None = None) -> None:
    bad = _not_finite(run)
    if bad:
        raise InputError(
            "TRN-009",
            f"Step {step} produced NaN or infinite values in '{bad}', so the run stopped without saving. Run it again with "
            "lower learning rates.",
        ) from cause


def _not_finite(run: Optimization) -> str:
    """The name of the first tensor that holds NaN or infinite values; empty where all are finite."""
    return next((name for name, tensor in run.trained().items() if not is_finite(tensor)), "")
