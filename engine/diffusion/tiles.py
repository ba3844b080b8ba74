"""Large frames through an autoencoder in overlapping tiles, blended by linear ramps.

As diffusers' tiling, with two changes: all tiles are equally large and start at whole latents, so that any size works (there,
the last tile is what is left and may be too small to encode), and gradients pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles of a side start: evenly spread, overlapping by at least `overlap`."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def tiled(
    code: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: tuple[int, int],
    unit: int,
    out_unit: int,
    overlap: float = 0.2,
) -> Tensor:
    """Apply an encoder or a decoder to tiles.

    Args:
        code: Maps [..., H, W] to [..., H / unit · out_unit, W / unit · out_unit].
        x: [..., H, W]; sides are multiples of `unit`.
        tile: Height and width of a tile, in latents.
        unit: Size of a latent in `x`: 8 for the pixels of an encoder, 1 for a decoder.
        out_unit: Size of a latent in the result.
        overlap: Least overlap of two neighbors, as a part of the tile.

    Returns:
        The result; that of one call where `x` is not larger than a tile.
    """
    sides = [side // unit for side in x.shape[-2:]]
    if all(side <= size for side, size in zip(sides, tile, strict=True)):
        return code(x)
    size = [min(side, most) for side, most in zip(sides, tile, strict=True)]
    rows, columns = (starts(side, most, int(most * overlap)) for side, most in zip(sides, size, strict=True))
    ramp = _ramp(size[0] * out_unit, x)[:, None] * _ramp(size[1] * out_unit, x)
    total: Tensor | None = None
    weights = x.new_zeros([side * out_unit for side in sides])
    for top in rows:
        for left in columns:
            part = code(x[..., top * unit : (top + size[0]) * unit, left * unit : (left + size[1]) * unit])
            if total is None:
                total = part.new_zeros([*part.shape[:-2], *weights.shape])
            where = (
                ...,
                slice(top * out_unit, (top + size[0]) * out_unit),
                slice(left * out_unit, (left + size[1]) * out_unit),
            )
            total[where] += part * ramp
            weights[where] += ramp
    return (total if total is not None else x) / weights


def _ramp(length: int, like: Tensor) -> Tensor:
    """Weights of a tile's samples along a side: 1, 2, … up to the middle and down again."""
    at = torch.arange(1, length + 1, device=like.device)
    return torch.minimum(at, length + 1 - at).to(like.dtype)
