"""Sample a 4D scene: the activated Gaussians at chosen times, as plain tensors for other programs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.safetensors_writer import write_tensors
from ..scene import Scene4D

__all__ = ["parse_seconds", "parse_times", "sample", "save"]

LONGEST = 1e9  # seconds


def parse_times(text: str, scene: Scene4D) -> list[float]:
    """Seconds from "0,0.5,1", or every captured moment from "all". Raises InputError."""
    seconds = parse_seconds(text)
    return scene.times.tolist() if seconds is None else seconds


def parse_seconds(text: str) -> list[float] | None:
    """Seconds from "0,0.5,1"; None for "all". Raises InputError."""
    if text.strip() == "all":
        return None
    try:
        seconds = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError("STP-028", f"times is '{text}'; give seconds such as 0,0.5,1, or 'all'.") from error
    if not all(abs(s) < LONGEST for s in seconds):
        raise InputError("STP-029", f"times is '{text}'; seconds must be finite numbers.")
    return seconds


@torch.no_grad()
def sample(scene: Scene4D, seconds: list[float]) -> dict[str, Tensor]:
    """means [T, N, 3], scales [T, N, 3], quats [T, N, 4] wxyz, opacities [T, N], sh [T, N, K, 3], times [T]; activated."""
    moments = [scene.at(t).activated() for t in seconds]
    names = ("means", "scales", "quats", "opacities", "sh")
    stacked = {name: torch.stack([getattr(m, name) for m in moments]).contiguous() for name in names}
    return {**stacked, "times": torch.tensor(seconds, dtype=torch.float64)}


def save(scene: Scene4D, seconds: list[float], target: Path) -> Path:
    """Write `sample` as one safetensors file, whole or not at all."""
    with write_atomically(target) as partial:
        write_tensors(partial, sample(scene, seconds), {})
    return target
