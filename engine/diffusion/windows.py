"""Overlapping windows over a long sequence: one network call per window, blended to one prediction.

Source: MultiDiffusion (Bar-Tal et al., ICML 2023), over time instead of over the image, and with weights that fall off
toward a window's ends. Changed: some frames are shared, which means that every window sees them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .dpm_solver import Predict


@dataclass(frozen=True, eq=False)
class Window:
    """Frames that the network sees together.

    Args:
        frames: Indices [L] into the sequence, ascending: shared frames, then a run without gaps.
        weights: Share [L] of the window's prediction in that of the sequence; 0 for shared frames outside of the run.
    """

    frames: Tensor
    weights: Tensor


def plan(total: int, length: int, overlap: int, shared: Sequence[int] = (0,)) -> list[Window]:
    """Windows of equal length over a sequence, spread evenly; their weights sum to 1 at every frame.

    Args:
        total: Frames T of the sequence.
        length: Frames that the network sees at once, shared ones included.
        overlap: Frames that neighboring windows have at least in common, besides shared ones.
        shared: Frames that are in every window.

    Returns:
        One window with all frames where they fit; else several, each with a weight that rises and falls as sin² over
        `overlap` frames.

    Raises:
        InputError: Windows that would not advance.

    Example:
        windows = plan(96, 24, 12)
        predict = blended([predictor(window.frames) for window in windows], windows)
    """
    if total <= length:
        return [Window(torch.arange(total), torch.ones(total))]
    span = length - len(shared)
    if not 0 <= overlap < span:
        raise InputError(
            "DIF-070",
            f"Windows of {length} frames, of which {len(shared)} shared, cannot overlap by {overlap}; choose an overlap of at "
            f"most {max(span - 1, 0)} or longer windows.",
        )
    count = math.ceil((total - span) / (span - overlap)) + 1
    starts = [round(i * (total - span) / (count - 1)) for i in range(count)]
    weights = torch.zeros(count, total, dtype=torch.float64)
    for row, start in zip(weights, starts, strict=True):
        row[start : start + span] = _bump(span, overlap)
    weights /= weights.sum(dim=0)
    windows: list[Window] = []
    for row, start in zip(weights, starts, strict=True):
        run = range(start, start + span)
        frames = torch.tensor([*(s for s in shared if s not in run), *run]).sort().values
        windows.append(Window(frames, row[frames].float()))
    return windows


def _bump(span: int, overlap: int) -> Tensor:
    """Weights [span] (float64) that rise as sin² over the first `overlap` frames and fall over the last."""
    from_end = torch.arange(span, dtype=torch.float64)
    from_end = torch.minimum(from_end, from_end.flip(0)) + 1
    return (0.5 * math.pi * (from_end / (overlap + 1)).clamp(max=1)).sin().square()


def joints(windows: Sequence[Window]) -> list[int]:
    """Frames at which another window begins to have the largest share; none for a single window."""
    total = int(windows[-1].frames[-1]) + 1
    shares = torch.zeros(len(windows), total)
    for row, window in zip(shares, windows, strict=True):
        row[window.frames] = window.weights
    leading = shares.argmax(dim=0)
    return (leading.diff() != 0).nonzero().flatten().add(1).tolist()


def blended(predictors: Sequence[Predict], windows: Sequence[Window], axis: int = 1) -> Predict:
    """The prediction of a whole sequence from predictors of windows.

    Args:
        predictors: One per window; each takes the window's frames of the latents.
        windows: From `plan`.
        axis: Axis of the frames in the latents.

    Returns:
        A function of the sequence's latents and the network's time; of a single window, that window's prediction itself.
    """
    if len(windows) == 1:
        return predictors[0]

    def predict(x: Tensor, t: float) -> Tensor:
        total: Tensor | None = None
        for each, window in zip(predictors, windows, strict=True):
            frames = window.frames.to(x.device)
            part = each(x.index_select(axis, frames), t)
            shape = [1] * part.ndim
            shape[axis] = -1
            if total is None:
                total = part.new_zeros(*part.shape[:axis], x.shape[axis], *part.shape[axis + 1 :])
            total.index_add_(axis, frames, part * window.weights.to(part).view(shape))
        assert total is not None
        return total

    return predict
