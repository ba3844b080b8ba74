"""The loss of the correlation's matches, on points whose tracks are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.reconstruction import Ldrm, Reconstruction
from engine.models.reconstruction.matching import cell_centers
from training.common.share import Share

from .data import Sample
from .losses import Weights, heaviness, match_loss

# points per query frame whose matches are compared with the truth
MATCHED = 640


def true_pixels(sample: Sample, times: Tensor, own: Tensor) -> Tensor:
    """Where frames at `times` [Q] show the points of the cells, (x, y) in 0..1 [A, Q, C, C, 2]."""
    centers, directions = sample.cell_rays()
    start = centers[own][:, None, None] + directions[own] * sample.distances[own].float()[..., None]
    found: list[Tensor] = []
    for time in times.tolist():
        points = start + sample.shifts[:, time].float()
        pixels, _ = sample.path.project(points.reshape(-1, 3), time)
        found.append((pixels / torch.tensor(sample.path.sizes[0])).view(*points.shape[:-1], 2))
    return torch.stack(found, dim=1)


@dataclass(frozen=True)
class Matched:
    """Points of a sample whose matches are compared with the truth, in all query frames.

    Args:
        index: Among the points of its own frames [Q, M].
        pixels: Where the query frames show them, (x, y) in 0..1 [Q, M, 2].
        heavy: Weight of each [Q, M].
    """

    index: Tensor
    pixels: Tensor
    heavy: Tensor


def drawn_matches(
    samples: list[Sample],
    times: Tensor,
    own: Tensor,
    weights: Weights,
    generator: torch.Generator,
    share: Share,
) -> list[Matched]:
    """Some points whose tracks are seen, more of those that move; all samples of the batch draw the same numbers."""
    shape = samples[0].visible[:, times].shape
    drawn = [torch.rand(shape, generator=generator) for _ in range(len(samples) * share.count)]
    found: list[Matched] = []
    for sample, values in zip(samples, share.of(torch.stack(drawn)), strict=True):
        wanted = true_pixels(sample, times, own)
        usable = sample.visible[:, times] & sample.known[:, None]
        score = torch.where(usable, values + sample.moves[:, None] * 0.5, -1.0)
        factor = heaviness(sample.moves.flatten(), weights)
        rows = score.transpose(0, 1).flatten(1)
        index = torch.stack([row.topk(min(MATCHED, len(row)))[1] for row in rows])
        pixels = torch.stack([wanted[:, q].reshape(-1, 2)[i] for q, i in enumerate(index)])
        heavy = torch.stack([factor[i] * usable[:, q].flatten()[i] for q, i in enumerate(index)])
        found.append(Matched(index, pixels, heavy))
    return found


def matches_loss(
    model: Ldrm, found: Reconstruction, matched: list[Matched], times: Tensor, total: Tensor
) -> Tensor:
    """Match loss of the drawn points."""
    assert found.features is not None
    own = found.gaussians.frames
    rows, columns = found.features.shape[2:4]
    cells = cell_centers(rows, columns, own.device) * torch.tensor([1, rows / columns], device=own.device)
    logits: list[Tensor] = []
    for b, points in enumerate(matched):
        for time, index in zip(times.tolist(), points.index.to(own.device), strict=True):
            features = found.features[b, own].flatten(0, 2)[index]
            other = found.features[b, time].flatten(0, 1)
            here = cells[index % len(cells)]
            logits.append(model.head_def.match.logits(features[None, None], other[None], here, cells)[0, 0])
    pixels = torch.cat([m.pixels.flatten(0, 1) for m in matched]).to(own.device)
    heavy = torch.cat([m.heavy.flatten() for m in matched]).to(own.device)
    return match_loss(torch.cat(logits), pixels, heavy, rows, columns, total)
