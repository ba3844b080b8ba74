"""Rotary positions of CogVideoX's tokens, as its pipelines in diffusers compute them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rotary_positions(
    config: Any, frames: int, height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines of the tokens of a video.

    Args:
        config: The transformer's config.
        frames: Latent frames, a multiple of the patch's.
        height: Height in latents.
        width: Width in latents.
        device: Where they go.

    Returns:
        Two tensors [tokens, head width]; None for a model with other positions.
    """
    if not config.use_rotary_positional_embeddings:
        return None
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    patch = int(config.patch_size)
    grid = height // patch, width // patch
    base = int(config.sample_height) // patch, int(config.sample_width) // patch
    if config.patch_size_t is None:
        place: dict[str, Any] = {"crops_coords": _centered(grid, base), "temporal_size": frames}
    else:
        place = {
            "crops_coords": None,
            "temporal_size": frames // int(config.patch_size_t),
            "grid_type": "slice",
            "max_size": base,
        }
    found: Any = get_3d_rotary_pos_embed(
        embed_dim=int(config.attention_head_dim), grid_size=grid, device=device, **place
    )
    return found


def _centered(grid: tuple[int, int], base: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Top left and bottom right of `grid`, scaled to fit into `base` and centered in it; all as (row, column)."""
    (rows, columns), (base_rows, base_columns) = grid, base
    if rows / columns > base_rows / base_columns:
        size = base_rows, round(base_rows / rows * columns)
    else:
        size = round(base_columns / columns * rows), base_columns
    top, left = round((base_rows - size[0]) / 2), round((base_columns - size[1]) / 2)
    return (top, left), (top + size[0], left + size[1])
