"""Blocks that the networks of TRELLIS are made of: transformer blocks, and residual blocks of sparse convolutions.

Source: TRELLIS (Xiang et al., CVPR 2025), sections 3.2 and 3.3 and released code; adaptive norms after DiT (Peebles and
Xie, ICCV 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Attend, Attention, FeedForward, LayerNorm, adaptive_modulation, attend_all, modulate
from .voxels import Groups, Voxels


@dataclass(frozen=True)
class Tokens:
    """How the tokens of a batch belong to its samples.

    Args:
        spread: Broadcast vectors of samples [B, C] to the tokens.
        within: Self-attention inside each sample.
        across: Attention of each sample's tokens to its condition.
    """

    spread: Callable[[Tensor], Tensor]
    within: Attend
    across: Attend

    @staticmethod
    def of_voxels(voxels: Voxels) -> Tokens:
        """Tokens [V, C] of voxels."""
        return Tokens(voxels.spread, voxels.by_sample.within, voxels.by_sample.across)


# tokens [B, L, C], the same number for each sample
DENSE = Tokens(lambda vectors: vectors[:, None], attend_all, attend_all)


class FlowBlock(nn.Module):
    """Transformer block of both flows: self-attention, cross-attention, feed-forward.

    Self-attention and feed-forward are modulated and gated by the timestep; cross-attention sees normalized tokens
    without modulation and has no gate.

    Args:
        channels: Channels C of the tokens.
        context_channels: Channels of the condition's tokens.
        heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward as a multiple of C.
        qk_rms_norm: Normalize queries and keys of the self-attention.

    Source:
        TRELLIS, figure 2; released code (ModulatedTransformerCrossBlock).
    """

    def __init__(
        self, channels: int, context_channels: int, heads: int, mlp_ratio: float, qk_rms_norm: bool
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.norm2 = LayerNorm(channels, affine=True)
        self.norm3 = LayerNorm(channels)
        self.self_attn = Attention(channels, heads, qk_rms_norm=qk_rms_norm)
        self.cross_attn = Attention(channels, heads, context_channels)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = adaptive_modulation(channels, 6)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, tokens: Tokens) -> Tensor:
        """Update tokens.

        Args:
            x: Tokens [B, L, C] or [V, C].
            time: Timestep embedding [B, C].
            context: Tokens of the condition [B, S, context channels].
            tokens: How the tokens belong to samples.
        """
        vectors = tokens.spread(self.adaLN_modulation(time)).chunk(6, dim=-1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = vectors
        x = x + gate * self.self_attn(modulate(self.norm1(x), shift, scale), attend=tokens.within)
        x = x + self.cross_attn(self.norm2(x), context, attend=tokens.across)
        return x + mlp_gate * self.mlp(modulate(self.norm3(x), mlp_shift, mlp_scale))


class WindowBlock(nn.Module):
    """Transformer block of the Gaussian decoder: attention inside windows, then feed-forward; norms have no parameters.

    Args:
        channels: Channels C of the tokens.
        heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward as a multiple of C.

    Source:
        TRELLIS, section 3.2; released code (SparseTransformerBlock); windows after Swin (Liu et al., ICCV 2021).
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.norm2 = LayerNorm(channels)
        self.attn = Attention(channels, heads)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor, windows: Groups) -> Tensor:
        """Update tokens [V, C]; voxels of one of the `windows` attend to each other."""
        x = x + self.attn(self.norm1(x), attend=windows.within)
        return x + self.mlp(self.norm2(x))


class _Kernel(nn.Module):
    """Weight [out, 3, 3, 3, in] (x, y, z) and bias [out] of a sparse convolution, under the names of spconv."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_uniform_(self.weight.flatten(1), a=5**0.5)


class SubmanifoldConv(nn.Module):
    """3×3×3 convolution over occupied cells; empty cells count as zero and stay empty.

    Args:
        channels: Input channels.
        out_channels: Output channels.

    Source:
        Graham et al., CVPR 2018 (submanifold sparse convolutions); weight layout of spconv 2.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _Kernel(channels, out_channels)

    def forward(self, features: Tensor, voxels: Voxels) -> Tensor:
        """Convolve features [V, in] to [V, out]."""
        kernel = self.conv.weight.flatten(1, 3).permute(1, 2, 0)
        # sums of up to 27 products per voxel are kept in float32
        out = self.conv.bias.float().expand(len(voxels), -1).clone()
        for weight, (rows, sources) in zip(kernel, voxels.neighbors, strict=True):
            if len(rows):
                out = out.index_add_(0, rows, (features[sources] @ weight).float())
        return out.to(features.dtype)


class SparseResBlock(nn.Module):
    """Residual block of two sparse convolutions, modulated by the timestep, that may change the resolution first.

    Args:
        channels: Input channels.
        time_channels: Channels of the timestep embedding.
        out_channels: Output channels.
        resample: "down": to the coarse voxels; "up": to the fine ones; None: neither. Norm, convolutions and the skip
            all see the resampled features.

    Source:
        TRELLIS, section 3.3; released code (SparseResBlock3d).
    """

    def __init__(
        self, channels: int, time_channels: int, out_channels: int, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm1 = LayerNorm(channels, affine=True)
        self.norm2 = LayerNorm(out_channels)
        self.conv1 = SubmanifoldConv(channels, out_channels)
        self.conv2 = SubmanifoldConv(out_channels, out_channels)
        nn.init.zeros_(self.conv2.conv.weight)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_channels, 2 * out_channels))
        changes = channels != out_channels
        self.skip_connection = nn.Linear(channels, out_channels) if changes else nn.Identity()

    def forward(self, features: Tensor, time: Tensor, fine: Voxels) -> Tensor:
        """Update features.

        Args:
            features: [V, in] of the fine voxels, or [coarse V, in] if the block resamples up.
            time: Timestep embedding [B, C].
            fine: The fine voxels of the block; the only ones if it does not resample.

        Returns:
            [V, out] of the fine voxels, or [coarse V, out] if the block resamples down.
        """
        voxels = fine
        if self.resample == "down":
            features, voxels = fine.coarse.pool(features), fine.coarse.voxels
        elif self.resample == "up":
            features = features[fine.coarse.parent]
        scale, shift = voxels.spread(self.emb_layers(time)).chunk(2, dim=-1)
        h = self.conv1(F.silu(self.norm1(features)), voxels)
        h = self.conv2(F.silu(modulate(self.norm2(h), shift, scale)), voxels)
        return h + self.skip_connection(features)


def cast_torso(modules: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Convert the linear layers and convolutions of a network's blocks; norms stay in float32, as they are published."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, (nn.Linear, nn.Conv3d, _Kernel)):
                layer.to(dtype)
