"""Objects made in code, z up in a box from −0.5 to 0.5: one that looks different from every side, and one that does not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine.scene import Gaussians, harmonics

# middle, radii and color of the ellipsoids of an animal that looks to the right
PARTS = (
    ((0.0, 0.0, 0.0), (0.30, 0.14, 0.13), (0.8, 0.3, 0.2)),
    ((0.33, -0.05, 0.12), (0.10, 0.10, 0.10), (0.2, 0.6, 0.3)),
    ((-0.33, 0.08, 0.10), (0.10, 0.03, 0.03), (0.2, 0.3, 0.9)),
    ((0.2, 0.08, -0.2), (0.04, 0.04, 0.13), (0.9, 0.9, 0.2)),
    ((0.2, -0.08, -0.2), (0.04, 0.04, 0.13), (0.3, 0.2, 0.1)),
    ((-0.2, 0.08, -0.2), (0.04, 0.04, 0.13), (0.1, 0.7, 0.8)),
    ((-0.2, -0.08, -0.2), (0.04, 0.04, 0.13), (0.8, 0.2, 0.8)),
)


def animal(per_part: int = 120) -> Gaussians:
    """Body, head, tail and four legs in seven colors."""
    generator = torch.Generator().manual_seed(0)
    means: list[Tensor] = []
    colors: list[Tensor] = []
    for middle, radii, color in PARTS:
        on_sphere = normalize(torch.randn(per_part, 3, generator=generator), dim=-1)
        means.append(on_sphere * torch.tensor(radii) + torch.tensor(middle))
        colors.append(torch.tensor(color) + 0.1 * torch.randn(per_part, 1, generator=generator))
    return _opaque(torch.cat(means), torch.cat(colors), 0.02)


def vase(rings: int = 24, around: int = 48) -> Gaussians:
    """A turned vase with stripes: the same from every side."""
    height = torch.linspace(-0.4, 0.4, rings)[:, None].expand(rings, around)
    angle = (2 * torch.pi / around * torch.arange(around)).expand(rings, around)
    radius = 0.2 + 0.08 * torch.sin(7 * height)
    means = torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=-1).flatten(0, 1)
    stripes = torch.tensor([[0.8, 0.3, 0.2], [0.2, 0.4, 0.8]])[(torch.arange(rings) // 4) % 2]
    return _opaque(means, stripes.repeat_interleave(around, dim=0), 0.02)


def _opaque(means: Tensor, colors: Tensor, size: float) -> Gaussians:
    count = len(means)
    return Gaussians(
        means.contiguous(),
        torch.full((count, 3), size).log(),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.full((count,), 3.0),
        harmonics.rgb_to_dc(colors)[:, None].contiguous(),
    )
