"""A color look-up table: a curve for each channel (1D) or a lattice of colors (3D), as `.cube` files hold it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# a .cube file has six decimals: a table that moves no color by more changes nothing
ROUNDING = 2e-6


@dataclass(frozen=True, eq=False)
class ColorTable:
    """Colors at evenly spaced inputs between two corners of the color cube.

    Args:
        values: [S, S, S, 3], indexed by red, green and blue, or [S, 3] with a curve for each channel; S ≥ 2.
        domain: [2, 3] the input of the first and of the last entry, for each channel.
        title: What the file calls it.
    """

    values: Tensor
    domain: Tensor
    title: str = ""

    @property
    def size(self) -> int:
        """Entries along each side."""
        return self.values.shape[0]

    @property
    def is_curve(self) -> bool:
        """Whether it has a curve for each channel instead of a lattice."""
        return self.values.ndim == 2

    @staticmethod
    def identity(size: int, is_curve: bool = False) -> ColorTable:
        """A table that changes no color in 0..1."""
        steps = torch.linspace(0, 1, size)
        axes = [steps[:, None].expand(size, 3)] if is_curve else torch.meshgrid([steps] * 3, indexing="ij")
        values = axes[0] if is_curve else torch.stack(list(axes), dim=-1)
        return ColorTable.lattice(values.contiguous())

    @staticmethod
    def lattice(values: Tensor, title: str = "") -> ColorTable:
        """A table of `values` over 0..1."""
        return ColorTable(values, torch.tensor([[0.0] * 3, [1.0] * 3]), title)

    @cached_property
    def is_identity(self) -> bool:
        """Whether no color changes, but for the rounding of six decimals."""
        low, high = self.domain
        plain = ColorTable.identity(self.size, self.is_curve).values
        return bool(((low + plain.to(low) * (high - low) - self.values).abs() <= ROUNDING).all())

    def apply(self, colors: Tensor) -> Tensor:
        """Colors [..., 3] through the table; outside the domain, those of its edge. Differentiable.

        A lattice is interpolated in the tetrahedron around each color, which keeps grays gray where the table does.
        """
        low, high = self.domain.to(colors)
        values = self.values.to(colors)
        last = self.size - 1
        place = ((colors - low) / (high - low)).clamp(0, 1).reshape(-1, 3) * last
        first = place.detach().long().clamp(max=last - 1)
        part = place - first
        if self.is_curve:
            channels = [
                torch.lerp(v[i], v[i + 1], p) for v, i, p in zip(values.T, first.T, part.T, strict=True)
            ]
            return torch.stack(channels, dim=-1).view_as(colors)
        strides = torch.tensor([self.size**2, self.size, 1], device=colors.device)
        # from the cell's first corner to its last along its edges, the largest part first
        parts, order = part.sort(dim=1, descending=True)
        corners = (first * strides).sum(dim=1, keepdim=True) + torch.cat(
            [torch.zeros_like(order[:, :1]), strides[order].cumsum(dim=1)], dim=1
        )
        edges = torch.nn.functional.pad(parts, (1, 1))
        edges = torch.cat([1 - parts[:, :1], edges[:, 1:-1] - edges[:, 2:]], dim=1)
        found = values.view(-1, 3)[corners]
        return (edges[..., None] * found).sum(dim=1).view_as(colors)
