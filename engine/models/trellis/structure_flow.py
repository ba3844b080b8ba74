"""Stage 1 of TRELLIS: the flow transformer that generates the latents of a shape's occupied cells.

Source: TRELLIS (Xiang et al., CVPR 2025), section 3.3 and released code (SparseStructureFlowModel).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import TimestepEmbedding, position_code, zeroed
from .blocks import DENSE, FlowBlock, cast_torso


@dataclass(frozen=True)
class StructureFlowShape:
    """Architecture of the structure flow; the defaults are the published model's (555.5 M parameters).

    Args:
        resolution: Cells R of the latent grid per axis.
        in_channels: Channels of the latents.
        out_channels: Channels of the velocity.
        model_channels: Channels of the tokens.
        cond_channels: Channels of the image tokens.
        num_blocks: Transformer blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forwards as a multiple of `model_channels`.
        qk_rms_norm: Normalize queries and keys of the self-attentions.
    """

    resolution: int = 16
    in_channels: int = 8
    out_channels: int = 8
    model_channels: int = 1024
    cond_channels: int = 1024
    num_blocks: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4
    qk_rms_norm: bool = True


class StructureFlow(nn.Module):
    """Velocity of noisy latents [B, C, R, R, R], given image tokens.

    Args:
        shape: The architecture.

    Source:
        TRELLIS, section 3.3, "sparse structure generation".
    """

    def __init__(self, shape: StructureFlowShape = StructureFlowShape()) -> None:
        super().__init__()
        self.shape = shape
        self.t_embedder = TimestepEmbedding(shape.model_channels)
        cells = torch.arange(shape.resolution)
        grid = torch.stack(torch.meshgrid(cells, cells, cells, indexing="ij"), dim=-1).flatten(0, 2)
        self.pos_emb: Tensor
        self.register_buffer("pos_emb", position_code(grid, shape.model_channels))
        self.input_layer = nn.Linear(shape.in_channels, shape.model_channels)
        self.blocks = nn.ModuleList(
            FlowBlock(
                shape.model_channels, shape.cond_channels, shape.num_heads, shape.mlp_ratio, shape.qk_rms_norm
            )
            for _ in range(shape.num_blocks)
        )
        self.out_layer = zeroed(nn.Linear(shape.model_channels, shape.out_channels))
        self.dtype = torch.float32

    def cast_torso(self, dtype: torch.dtype) -> None:
        """Compute the blocks in `dtype`; input, output, norms and timesteps stay in float32."""
        self.dtype = dtype
        cast_torso(self.blocks, dtype)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noisy latents [B, C, R, R, R], axes x, y, z.
            t: Timesteps [B], 1000 times the flow's time.
            cond: Image tokens [B, L, cond_channels]; zeros without a condition.

        Returns:
            Velocity [B, C, R, R, R].
        """
        h = self.input_layer(x.flatten(2).transpose(1, 2)) + self.pos_emb
        h, time, context = h.to(self.dtype), self.t_embedder(t).to(self.dtype), cond.to(self.dtype)
        for block in self.blocks:
            h = block(h, time, context, DENSE)
        h = h.to(x.dtype)
        v = self.out_layer(F.layer_norm(h, h.shape[-1:]))
        return v.transpose(1, 2).unflatten(2, x.shape[2:])
