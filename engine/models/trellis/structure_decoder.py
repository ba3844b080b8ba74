"""Stage 2 of TRELLIS: a dense 3D convolutional decoder from latents to occupied cells.

Source: TRELLIS (Xiang et al., CVPR 2025), section 3.3 and released code (SparseStructureDecoder).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import LayerNorm
from .blocks import cast_torso


@dataclass(frozen=True)
class StructureDecoderShape:
    """Architecture of the structure decoder; the defaults are the published model's (73.7 M parameters).

    Args:
        out_channels: Channels of the output; 1 for occupancy.
        latent_channels: Channels of the latents.
        num_res_blocks: Residual blocks per resolution.
        num_res_blocks_middle: Residual blocks before them.
        channels: Channels per resolution, coarse to fine; each next one doubles the resolution.
    """

    out_channels: int = 1
    latent_channels: int = 8
    num_res_blocks: int = 2
    num_res_blocks_middle: int = 2
    channels: tuple[int, ...] = (512, 128, 32)


class ChannelNorm(LayerNorm):
    """Layer norm over the channels of each cell of [B, C, X, Y, Z]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, eps=1e-5)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class ResBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))) on [B, C, X, Y, Z]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.norm2 = ChannelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


def pixel_shuffle_3d(x: Tensor, factor: int = 2) -> Tensor:
    """Spread channels over space: [B, C·f³, X, Y, Z] to [B, C, fX, fY, fZ], channel = ((c·f + dx)·f + dy)·f + dz."""
    x = x.unflatten(1, (-1, factor, factor, factor))
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class Upsample(nn.Module):
    """Convolution to eight times the channels, then pixel shuffle to twice the resolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle_3d(self.conv(x))


class StructureDecoder(nn.Module):
    """Occupancy logits of latents: [B, C, R, R, R] to [B, 1, 4R, 4R, 4R] with three widths.

    Args:
        shape: The architecture.

    Source:
        TRELLIS, section 3.3; pixel shuffle after Shi et al., CVPR 2016.
    """

    def __init__(self, shape: StructureDecoderShape = StructureDecoderShape()) -> None:
        super().__init__()
        self.shape = shape
        first, last = shape.channels[0], shape.channels[-1]
        self.input_layer = nn.Conv3d(shape.latent_channels, first, 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock(first) for _ in range(shape.num_res_blocks_middle)))
        blocks: list[nn.Module] = []
        for i, channels in enumerate(shape.channels):
            blocks += [ResBlock(channels) for _ in range(shape.num_res_blocks)]
            if i + 1 < len(shape.channels):
                blocks.append(Upsample(channels, shape.channels[i + 1]))
        self.blocks = nn.ModuleList(blocks)
        out = nn.Conv3d(last, shape.out_channels, 3, padding=1)
        self.out_layer = nn.Sequential(ChannelNorm(last), nn.SiLU(), out)
        self.dtype = torch.float32

    def cast_torso(self, dtype: torch.dtype) -> None:
        """Compute the residual and upsampling blocks in `dtype`; input, output and norms stay in float32."""
        self.dtype = dtype
        cast_torso([self.middle_block, self.blocks], dtype)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, R, R, R] to logits; a cell is occupied where its logit is positive."""
        h = self.middle_block(self.input_layer(latents).to(self.dtype))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(latents.dtype))


def occupied(logits: Tensor) -> Tensor:
    """Coordinates (sample, x, y, z) [V, 4] of the cells with a positive logit in [B, 1, X, Y, Z], in row-major order."""
    return torch.nonzero(logits[:, 0] > 0)
