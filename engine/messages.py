"""Messages of a running step: one stream for progress bars, previews, tests and logs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor


@dataclass(frozen=True)
class Started:
    """The step starts: `total` units of progress, and one line on what is done, on which device, with which rasterizer."""

    total: int
    note: str = ""
    # what is counted, where it is not the step's own work: "preparing frames"
    task: str = ""


@dataclass(frozen=True)
class Progress:
    """`done` units of Started.total, the current losses, and the current number of Gaussians (0: not told).

    `total` is after how many units the step is expected to end, where that is before Started.total; else 0.
    """

    done: int
    losses: dict[str, float] = field(default_factory=dict)
    count: int = 0
    total: int = 0


@dataclass(frozen=True, eq=False)
class Preview:
    """A preview `image`, [H, W, 3] float in 0..1 on the CPU."""

    image: Tensor
    done: int


@dataclass(frozen=True)
class Saved:
    """A file was written."""

    path: str
    done: int


@dataclass(frozen=True)
class JobUpdate:
    """A job of a batch, as it is now: `done` of `total` units of what its verb does, and about `left` seconds of it.

    `state`: "waiting", "running", "done", "up to date" (it was done before), "failed", "not run" (a job it needs failed), or
    "stopped". `note` says why.
    """

    name: str
    verb: str
    state: str
    task: str = ""
    done: int = 0
    total: int = 0
    left: float | None = None
    machine: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class Finished:
    """The step is done; `value` is its result, `note` how it ended, where that was before all was done."""

    value: Any
    note: str = ""


Message = Started | Progress | Preview | Saved | JobUpdate | Finished
Stream = Generator[Message, None, None]
_Made = TypeVar("_Made")


def status(message: Progress, total: int, first: int, elapsed: float, task: str = "") -> str:
    """One line such as "120 of 4000 · 8000 Gaussians · loss 0.031 · 2:10 left", counted to the nearer end, after the task
    where there is one."""
    end = f"about {message.total} in the time set (of {total})" if message.total else f"{total}"
    parts = [f"{task} {message.done} of {end}".lstrip()]
    total = message.total or total
    if message.count:
        parts.append(f"{message.count} Gaussians")
    for name in ("loss", "psnr", "latent_error", "refined_error"):
        if name in message.losses:
            parts.append(f"{name.replace('_', ' ')} {message.losses[name]:.4g}")
    done = message.done - first
    if done > 0:
        left = round(elapsed / done * (total - message.done))
        parts.append(f"{left // 60}:{left % 60:02} left")
    return " · ".join(parts)


def progress_of(
    work: Generator[int, None, _Made], before: int = 0, count: int = 0, share: float = 1.0
) -> Generator[Message, None, _Made]:
    """Turn work that yields its finished parts into Progress messages, counted from `before`; return its result.

    Args:
        work: Yields how many parts are finished.
        before: Units that were finished before.
        count: Gaussians.
        share: Units of each part.
    """
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            return end.value
        yield Progress(before + int(share * done), count=count)


def returned(work: Generator[Any, None, _Made]) -> _Made:
    """Run work to its end without showing its progress, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def as_stream(made: Any) -> Stream:
    """What a step's `run` gave, as a stream: its own, or one that says only what it returned."""
    if isinstance(made, Generator):
        yield from made
    else:
        yield Finished(made)


def result(stream: Stream) -> Any:
    """Run a stream to its end and return the value of its `Finished` message."""
    value: Any = None
    for message in stream:
        if isinstance(message, Finished):
            value = message.value
    return value
