"""Unfinished sampling of a diffusion model, on disk."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from ..diffusion.dpm_solver import Sample
from .state import load_state, save_state


class SampleCheckpoint:
    """Saves the newest state of a sampling run, which its caller keeps in `newest`.

    Args:
        path: The file; None saves nothing.
        key: Identifies the run, from `key_of`.
        seconds: Interval after which `due` says that the state should be saved.
        clock: Seconds.
    """

    def __init__(self, path: Path | None, key: str, seconds: float, clock: Callable[[], float]) -> None:
        self.path, self.key, self.seconds, self.clock = path, key, seconds, clock
        self.saved_at = clock()
        self.newest: Sample | None = None

    def due(self) -> bool:
        """Whether the interval is over."""
        return self.path is not None and self.clock() - self.saved_at > self.seconds

    @contextmanager
    def kept(self) -> Generator[None, None, None]:
        """Save the newest state where the block ends early: closed, interrupted or failed."""
        try:
            yield
        except BaseException:
            self.save()
            raise

    def save(self) -> None:
        """Save the newest state, once."""
        sample = self.newest
        if self.path is None or sample is None:
            return
        tensors = {"latents": sample.latents, **{f"memory.{name}": t for name, t in sample.memory.items()}}
        save_state(self.path, tensors, {"t": sample.t, **sample.numbers}, self.key)
        self.saved_at, self.newest = self.clock(), None


def unfinished_sample(checkpoint: Path, key: str) -> Sample | None:
    """The state that the same run saved; None where there is none."""
    found = load_state(checkpoint, key)
    if found is None:
        return None
    tensors, numbers = found
    memory = {name.removeprefix("memory."): t for name, t in tensors.items() if name != "latents"}
    latents = tensors["latents"]
    others = {name: value for name, value in numbers.items() if name != "t"}
    return Sample(latents, numbers["t"], memory.get("clean", latents), memory, others)
