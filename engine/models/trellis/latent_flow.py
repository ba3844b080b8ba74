"""Stage 3 of TRELLIS: the sparse flow transformer that generates a latent for each occupied cell.

Source: TRELLIS (Xiang et al., CVPR 2025), section 3.3 and released code (SLatFlowModel).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import TimestepEmbedding, position_code, zeroed
from .blocks import FlowBlock, SparseResBlock, Tokens, cast_torso
from .voxels import Voxels

# statistics of the published latents: a sample of the flow times SCALE plus MEAN is what the decoders take
MEAN = (-2.16875458, -0.00434705, -0.13352349, -0.08418073, -0.52712065, 0.72386891, -1.14144504, 1.20393634)
SCALE = (2.37765074, 2.38637829, 2.12441802, 2.17485523, 2.66394472, 2.37119222, 2.62174463, 2.68452311)


@dataclass(frozen=True)
class LatentFlowShape:
    """Architecture of the latent flow; the defaults are the published model's (600.4 M parameters).

    Args:
        resolution: Cells of the grid per axis.
        in_channels: Channels of the latents.
        out_channels: Channels of the velocity.
        model_channels: Channels of the tokens.
        cond_channels: Channels of the image tokens.
        num_blocks: Transformer blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forwards as a multiple of `model_channels`.
        num_io_res_blocks: Residual blocks per resolution before, and again after the transformer.
        io_block_channels: Their channels, fine to coarse; each halves the resolution.
        qk_rms_norm: Normalize queries and keys of the self-attentions.
    """

    resolution: int = 64
    in_channels: int = 8
    out_channels: int = 8
    model_channels: int = 1024
    cond_channels: int = 1024
    num_blocks: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4
    num_io_res_blocks: int = 2
    io_block_channels: tuple[int, ...] = (128,)
    qk_rms_norm: bool = True


class LatentFlow(nn.Module):
    """Velocity of noisy latents [V, C] on voxels, given image tokens.

    Residual blocks halve the resolution, transformer blocks attend over all coarse voxels of a sample, and residual
    blocks with skips restore the resolution.

    Args:
        shape: The architecture.

    Source:
        TRELLIS, section 3.3, "structured latents generation".
    """

    def __init__(self, shape: LatentFlowShape = LatentFlowShape()) -> None:
        super().__init__()
        self.shape = shape
        width, count = shape.model_channels, shape.num_io_res_blocks
        fine_to_coarse = list(shape.io_block_channels)
        self.t_embedder = TimestepEmbedding(width)
        self.input_layer = nn.Linear(shape.in_channels, fine_to_coarse[0])
        down: list[SparseResBlock] = []
        for channels, following in zip(fine_to_coarse, [*fine_to_coarse[1:], width], strict=True):
            down += [SparseResBlock(channels, width, channels) for _ in range(count - 1)]
            down.append(SparseResBlock(channels, width, following, "down"))
        self.input_blocks = nn.ModuleList(down)
        self.blocks = nn.ModuleList(
            FlowBlock(width, shape.cond_channels, shape.num_heads, shape.mlp_ratio, shape.qk_rms_norm)
            for _ in range(shape.num_blocks)
        )
        up: list[SparseResBlock] = []
        coarse_to_fine = fine_to_coarse[::-1]
        for channels, coarser in zip(coarse_to_fine, [width, *coarse_to_fine[:-1]], strict=True):
            # inputs are concatenated with the skip of the same width
            up.append(SparseResBlock(2 * coarser, width, channels, "up"))
            up += [SparseResBlock(2 * channels, width, channels) for _ in range(count - 1)]
        self.out_blocks = nn.ModuleList(up)
        self.out_layer = zeroed(nn.Linear(fine_to_coarse[0], shape.out_channels))
        self.dtype = torch.float32

    def cast_torso(self, dtype: torch.dtype) -> None:
        """Compute all blocks in `dtype`; input, output, norms and timesteps stay in float32."""
        self.dtype = dtype
        cast_torso([self.input_blocks, self.blocks, self.out_blocks], dtype)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor, voxels: Voxels) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noisy latents [V, C] in the order of the voxels.
            t: Timesteps [B], 1000 times the flow's time.
            cond: Image tokens [B, L, cond_channels]; zeros without a condition.
            voxels: The occupied cells; pass the same object to every call of a run.

        Returns:
            Velocity [V, C].
        """
        h = self.input_layer(x).to(self.dtype)
        time, context = self.t_embedder(t).to(self.dtype), cond.to(self.dtype)
        levels, skips = [voxels], list[Tensor]()
        for block in self.input_blocks:
            h = block(h, time, levels[-1])
            skips.append(h)
            if block.resample == "down":
                levels.append(levels[-1].coarse.voxels)
        h = h + position_code(levels[-1].coords[:, 1:], h.shape[-1]).to(self.dtype)
        tokens = Tokens.of_voxels(levels[-1])
        for block in self.blocks:
            h = block(h, time, context, tokens)
        for block in self.out_blocks:
            if block.resample == "up":
                levels.pop()
            h = block(torch.cat([h, skips.pop()], dim=-1), time, levels[-1])
        h = h.to(x.dtype)
        return self.out_layer(F.layer_norm(h, h.shape[-1:]))


def denormalize(latents: Tensor) -> Tensor:
    """Latents [V, 8] as the decoders take them, from a sample of the published flow."""
    return latents * latents.new_tensor(SCALE) + latents.new_tensor(MEAN)
