"""Relative depth brought to metric depth: a scale and a shift by robust least squares, as Diff4Splat prepares its data.

Source: Diff4Splat (arXiv 2511.00503), data preparation; disparity is fitted to the inverse of the reference (MiDaS, Ranftl
et al. 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# what the values of a depth map may mean: they grow with the depth, with its inverse, or fall linearly with the depth
KINDS = ("depth", "disparity", "inverted")
# values of one fit; more of them change nothing
MOST_SAMPLES = 50_000
ROUNDS = 30
# another meaning must fit by this much better than plain depth
CLEARLY = 0.9
SMALLEST = 1e-6


class Line(NamedTuple):
    """y ≈ scale · x + shift."""

    scale: float
    shift: float


class AlignedDepth(NamedTuple):
    """Depth maps in the reference's units."""

    depth: Tensor  # [F, H, W]; 0 where the depth is unknown or infinite
    kind: str  # one of KINDS
    lines: tuple[Line, ...]  # one for the clip, or one for each frame
    error: float  # median relative difference from the reference


def fit_line(x: Tensor, y: Tensor) -> Line:
    """The scale and shift that take most of x [P] to y [P], whatever less than half of the values are.

    Iteratively reweighted least squares: absolute differences first, then Tukey's weights, which ignore outliers.
    """
    x, y = x.double(), y.double()
    weights = torch.ones_like(x)
    scale, shift = torch.zeros((), dtype=x.dtype), y.median()
    for turn in range(ROUNDS):
        total = weights.sum().clamp(min=SMALLEST)
        middle_x, middle_y = (weights * x).sum() / total, (weights * y).sum() / total
        spread = (weights * (x - middle_x).square()).sum()
        scale = (weights * (x - middle_x) * (y - middle_y)).sum() / spread.clamp(min=1e-300)
        shift = middle_y - scale * middle_x
        away = (y - scale * x - shift).abs()
        deviation = 1.4826 * away.median() + SMALLEST * y.abs().median()
        if turn < ROUNDS // 2:
            weights = 1 / torch.maximum(away, 0.01 * deviation)
        else:
            weights = (1 - (away / (4.685 * deviation)).square()).clamp(min=0).square()
    return Line(float(scale), float(shift))


def align_depth(
    depth: Tensor, reference: Tensor, known: Tensor, per_frame: bool, kind: str = ""
) -> AlignedDepth:
    """Depth maps in the units of a reference.

    Args:
        depth: Maps [F, H, W] of any scale and shift.
        reference: Metric depth [F, H, W].
        known: [F, H, W] bool: where both are to be compared. At least two different values per fit.
        per_frame: A scale and shift for every frame, instead of one for all.
        kind: One of `KINDS`; empty: the one that fits best.
    """
    tried = [_aligned(depth, reference, known, per_frame, each) for each in ([kind] if kind else KINDS)]
    best = min(tried, key=lambda made: made.error * (CLEARLY if made.kind == "depth" else 1))
    return best


def _aligned(depth: Tensor, reference: Tensor, known: Tensor, per_frame: bool, kind: str) -> AlignedDepth:
    lines: list[Line] = []
    result = torch.zeros_like(depth)
    groups = [slice(i, i + 1) for i in range(len(depth))] if per_frame else [slice(0, len(depth))]
    errors: list[Tensor] = []
    for group in groups:
        chosen = known[group]
        x, y = depth[group][chosen], reference[group][chosen]
        step = -(-len(x) // MOST_SAMPLES)
        line = fit_line(x[::step], 1 / y[::step] if kind == "disparity" else y[::step])
        wrong_way = line.scale <= 0 if kind != "inverted" else line.scale >= 0
        made = line.scale * depth[group] + line.shift
        if kind == "disparity":
            made = torch.where(made > SMALLEST / float(y.max()), 1 / made, torch.zeros(()))
        made = torch.where(torch.isfinite(made) & (made > 0), made, torch.zeros(()))
        result[group] = made
        lines.append(line)
        away = (made[chosen] - y).abs() / y
        errors.append(torch.full_like(away, torch.inf) if wrong_way else away)
    return AlignedDepth(result, kind, tuple(lines), float(torch.cat(errors).median()))
