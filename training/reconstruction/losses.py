"""Losses of Diff4Splat's training with the paper's weights as defaults, and our own on known truth.

L = photometric + geometric + motion: MSE + 0.5 LPIPS; 1 − Pearson + total variation of depth; displacement of tracked points.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from training.variation_field.losses import perceptual_network


@dataclass(frozen=True)
class Weights:
    """Weights of the losses; the defaults are the paper's where it gives them.

    Args:
        mse: Of images.
        perceptual: LPIPS of images, or its stand-in "random features".
        pearson: 1 − Pearson correlation of rendered and true depth.
        variation: Total variation of rendered depth; the paper gives no weight.
        motion: Of both terms on tracks.
        displacement: λ_m, of the distance of displacements from the true ones, inside `motion`.
        sparsity: Of the L1 norm of displacements, inside `motion`.
        moving: How much more what moves counts, in images and on tracks; the paper's is 1.
        distance: L1 of logarithmic distances against the truth; not in the paper, possible where data is made.
        match: Cross-entropy of the correlation against true matches; not in the paper.
    """

    mse: float = 1.0
    perceptual: float = 0.5
    pearson: float = 0.5
    variation: float = 0.01
    motion: float = 2.0
    displacement: float = 2.0
    sparsity: float = 1.0
    moving: float = 1.0
    distance: float = 0.0
    match: float = 0.0


# what the small model is trained with
SMALL = Weights(mse=5.0, sparsity=0.1, moving=8.0, distance=1.0, match=0.1)


def heaviness(moving: Tensor, weights: Weights) -> Tensor:
    """How much pixels count, by the part of each that moves."""
    return 1 + (weights.moving - 1) * moving


def photometric(
    drawn: Tensor, wanted: Tensor, moving: Tensor, weights: Weights, total: Tensor | None = None
) -> Tensor:
    """Loss of images [B, H, W, 3] in 0..1, with the part of each pixel that moves [B, H, W].

    Here and below, `total` is the sum of all weights, if not that of these images alone.
    """
    heavy = heaviness(moving, weights)
    squared = ((drawn - wanted).square().mean(-1) * heavy).sum() / (heavy.sum() if total is None else total)
    total = weights.mse * squared
    if weights.perceptual:
        a, b = (2 * x.permute(0, 3, 1, 2) - 1 for x in (drawn, wanted))
        total = total + weights.perceptual * perceptual_network()(a, b).mean()
    return total


def pearson(depth: Tensor, truth: Tensor) -> Tensor:
    """Correlation [B] of depth maps [B, H, W] where the truth is known (above 0); blind to scale and shift."""
    known = (truth > 0).to(depth).flatten(1)
    a, b = depth.flatten(1), truth.to(depth).flatten(1)
    count = known.sum(1, keepdim=True).clamp(min=1)
    a = (a - (a * known).sum(1, keepdim=True) / count) * known
    b = (b - (b * known).sum(1, keepdim=True) / count) * known
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).clamp(min=1e-12).sqrt()


def total_variation(depth: Tensor) -> Tensor:
    """Mean absolute difference of neighboring pixels of depth maps [B, H, W]."""
    return depth.diff(dim=1).abs().mean() + depth.diff(dim=2).abs().mean()


def motion_loss(
    shifts: Tensor,
    truth: Tensor,
    known: Tensor,
    moves: Tensor,
    weights: Weights,
    total: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Both terms on tracks: λ_m ‖Δx̂ − Δx‖₂ and ‖Δx̂‖₁, means over known points.

    Args:
        shifts: Predicted displacements [..., 3].
        truth: True ones [..., 3].
        known: Whether a track is known [...].
        moves: Whether it moves [...].
        weights: Of the terms.
        total: As in `photometric`.

    Returns:
        The distance and the sparsity term, weighted; the first is 0 on true tracks.
    """
    heavy = known.to(shifts) * heaviness(moves.to(shifts), weights)
    total = heavy.sum().clamp(min=1) if total is None else total
    # a root with a gradient at zero
    apart = ((shifts - truth).square().sum(-1) + 1e-8).sqrt() - 1e-4
    return (
        weights.motion * weights.displacement * (apart * heavy).sum() / total,
        weights.motion * weights.sparsity * (shifts.abs().sum(-1) * heavy).sum() / total,
    )


def distance_loss(distances: Tensor, truth: Tensor, total: Tensor | None = None) -> Tensor:
    """L1 of the logarithms of distances where the truth is known (above 0)."""
    known = truth > 0
    apart = (distances.log() - truth.float().clamp(min=1e-3).log()).abs()
    return (apart * known).sum() / (known.sum().clamp(min=1) if total is None else total)


def match_loss(
    logits: Tensor, pixels: Tensor, heavy: Tensor, rows: int, columns: int, total: Tensor | None = None
) -> Tensor:
    """Cross-entropy of matches against the true ones, which lie between four cells.

    Args:
        logits: [M, cells].
        pixels: Where the points are, (x, y) in 0..1 [M, 2].
        heavy: Weight of each point [M].
        rows: Rows of cells.
        columns: Columns of cells.
        total: As in `photometric`.
    """
    place = pixels * pixels.new_tensor([columns, rows]) - 0.5
    corner = place.floor()
    part = place - corner
    found = logits.new_zeros(len(logits))
    scores = F.log_softmax(logits, dim=-1)
    for dx in (0, 1):
        for dy in (0, 1):
            x = (corner[:, 0] + dx).long().clamp(0, columns - 1)
            y = (corner[:, 1] + dy).long().clamp(0, rows - 1)
            share = (1 - dx - part[:, 0]).abs() * (1 - dy - part[:, 1]).abs()
            found = found - share * scores.gather(1, (y * columns + x)[:, None])[:, 0]
    return (found * heavy).sum() / (heavy.sum().clamp(min=1) if total is None else total)
