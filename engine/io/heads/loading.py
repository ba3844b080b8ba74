"""A head from its files: the model and the motion together."""

from __future__ import annotations

from pathlib import Path

import torch

from ...files.paths import printable
from ...heads import Head, HeadModel, HeadMotion
from ...heads.motion import POSES
from .model_file import read_head_model
from .motion_file import read_timed_motion

BUNDLED = Path(__file__).resolve().parents[3] / "assets" / "heads" / "bundled" / "head_model.npz"


def bundled_head() -> Path:
    """The head model that the pack contains: not FLAME, but of the same format."""
    return BUNDLED


def load_head(
    model: Path | str | None = None,
    motion: Path | str | None = None,
    frames_per_second: float = 0.0,
    cache: Path | None = None,
) -> Head:
    """A head model with its motion.

    Args:
        model: An `.npz` or FLAME's `.pkl`; None takes the bundled model.
        motion: A `flame_param.npz` or a head capture's folder; None gives one frame of the neutral mean head.
        frames_per_second: Of the motion; 0 takes what the folder stores, else 25.
        cache: A folder in which pickles are kept as `.npz`.

    Raises:
        InputError: A file is missing, unsafe or damaged, or model and parameters do not belong together.
    """
    read = read_head_model(model or BUNDLED, cache)
    if motion is None:
        return Head(read, neutral_motion(read), f"{read.name}, neutral")
    moving, note = read_timed_motion(motion, frames_per_second)
    return Head(read, moving, printable(Path(motion).name), note)


def neutral_motion(model: HeadModel) -> HeadMotion:
    """One frame with all parameters zero."""
    zeros = {name: torch.zeros(1, width) for name, width in POSES.items()}
    expr, shape = torch.zeros(1, model.expressions), torch.zeros(model.shapes)
    return HeadMotion(times=torch.zeros(1, dtype=torch.float64), shape=shape, expr=expr, **zeros)
