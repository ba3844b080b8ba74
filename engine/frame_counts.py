"""Frames of videos whose latents stand for k frames each, the first one for one frame: T = k · (n − 1) + 1."""

from __future__ import annotations


def frames_of(latents: int, time_factor: int) -> int:
    """Frames that `latents` latent frames decode to, k = `time_factor`."""
    return time_factor * (latents - 1) + 1


def counts_around(frames: int, step: int) -> tuple[int, int]:
    """The largest count n · step + 1 that is not above `frames`, at least 1, and the next one."""
    below = max(frames - 1, 0) // step * step + 1
    return below, below + step


def nearest_count(frames: int, step: int) -> int:
    """The count n · step + 1 nearest to `frames`; the lower one where both are equally near."""
    below, above = counts_around(frames, step)
    return below if frames - below <= above - frames else above
