"""What self-attention does while key views are recorded, and while other views are injected from the record.

Source: DGE (Chen et al., ECCV 2024). A key pass runs the K key views in one batch with extended attention and records
the normed input and the output of each self-attention. The other views then take their self-attention output from that
record, along epipolar lines (`epipolar`). Added: the key views of another frame may look at those of a reference frame,
because epipolar lines exist only among images of one frame.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .epipolar import Epipolar, Source, inject


@dataclass(eq=False)
class KeyViews:
    """Record of one key pass: what each self-attention of the network read and returned.

    Args:
        frames: K.
        branch: Index of the guidance branch in which tokens are matched; normed inputs of others are not kept.
        reference: Record of the reference frame, whose tokens these key views attend to as well.
        is_reference: Other records will attend to this one, so that its keys and values are kept.
    """

    frames: int
    branch: int = 0
    reference: KeyViews | None = None
    is_reference: bool = False
    hidden: dict[Hashable, Tensor] = field(default_factory=dict[Hashable, Tensor])
    output: dict[Hashable, Tensor] = field(default_factory=dict[Hashable, Tensor])
    tokens: dict[Hashable, tuple[Tensor, Tensor]] = field(
        default_factory=dict[Hashable, tuple[Tensor, Tensor]]
    )


@dataclass(frozen=True, eq=False)
class Recording:
    """Attention of a key pass: all key views attend to all of them, and `views` is filled."""

    views: KeyViews

    @property
    def frames(self) -> int:
        return self.views.frames

    def extended(
        self, layer: Hashable, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [G·K, L, D] as one sequence per branch [G, K·L, D]; keys may be longer."""
        if query.shape[0] % self.frames:
            raise ValueError(f"{query.shape[0]} images are not a multiple of {self.frames} frames per branch")
        query, key, value = (x.reshape(-1, self.frames * x.shape[1], x.shape[2]) for x in (query, key, value))
        if self.views.is_reference:
            self.views.tokens[layer] = key, value
        if self.views.reference is not None:
            more_keys, more_values = self.views.reference.tokens[layer]
            key, value = torch.cat([key, more_keys], dim=1), torch.cat([value, more_values], dim=1)
        return query, key, value

    def record(self, layer: Hashable, normed: Tensor, output: Tensor) -> None:
        """Keep a layer's normed input [G·K, L, C] and attention output [G·K, L, D]."""
        grouped = (-1, self.frames)
        # a copy: a view would keep all branches in memory
        self.views.hidden[layer] = normed.unflatten(0, grouped)[self.views.branch].clone()
        self.views.output[layer] = output.unflatten(0, grouped)


@dataclass(frozen=True, eq=False)
class Injection:
    """Attention of a chunk of F views: not computed, but taken from recorded key views of the same frame.

    Args:
        views: The record.
        epipolar: Constraints between all images of the edit.
        images: [F] indices of the chunk's images in `epipolar`.
        keys: [K] indices of the key views' images.
        size: (rows, columns) of the latents.
        nearest: How many key views are blended, 1 or 2.
        reference: See `epipolar.match`.
    """

    views: KeyViews
    epipolar: Epipolar
    images: Sequence[int]
    keys: Sequence[int]
    size: tuple[int, int]
    nearest: int = 2
    reference: bool = False

    @property
    def frames(self) -> int:
        return len(self.images)

    def output(self, layer: Hashable, normed: Tensor) -> Tensor:
        """The attention output [G·F, L, D] of a layer with the normed input [G·F, L, C]."""
        grouped = normed.unflatten(0, (-1, self.frames))
        rows, columns = level(self.size, normed.shape[1])
        sources = [self._sources(image, rows, columns, normed.device) for image in self.images]
        hidden, output = self.views.hidden[layer], self.views.output[layer]
        return inject(grouped[self.views.branch], hidden, output, sources, self.reference).flatten(0, 1)

    def _sources(self, image: int, rows: int, columns: int, device: torch.device) -> list[Source]:
        order, weights = self.epipolar.nearest(image, self.keys, self.nearest)
        return [
            Source(key, weight, self.epipolar(image, self.keys[key], rows, columns, device))
            for key, weight in zip(order, weights, strict=True)
        ]


def level(size: tuple[int, int], tokens: int) -> tuple[int, int]:
    """(rows, columns) of a layer with `tokens` tokens, in a network that halves latents of `size`, rounding up."""
    rows, columns = size
    while rows * columns > max(tokens, 1):
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns != tokens:
        raise ValueError(f"{tokens} tokens do not belong to latents of {size[1]}×{size[0]}")
    return rows, columns
