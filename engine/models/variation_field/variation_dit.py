"""The diffusion transformer of GVFDiffusion: velocity of noisy variation-field latents, given a video and a splat.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.2 and released code (DiT); blocks after DiT (Peebles and Xie, ICCV
2023). It is one call of the network: schedules and samplers are in engine/diffusion, guidance in guidance.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import (
    Attention,
    FeedForward,
    LayerNorm,
    TimestepEmbedding,
    adaptive_modulation,
    modulate,
    position_code,
    zeroed,
)
from ..trellis.blocks import cast_torso
from .conditions import Conditions


@dataclass(frozen=True)
class VariationDitShape:
    """Architecture of the transformer; the defaults are the published model's (105.5 M parameters).

    Nothing in it depends on the number of frames T or anchors N.

    Args:
        in_channels: Channels C of the latents.
        out_channels: Channels of the velocity.
        model_channels: Channels of the tokens.
        static_cond_channels: Channels of a canonical token.
        image_cond_channels: Channels of an image token.
        num_blocks: Transformer blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forwards as a multiple of `model_channels`.
        qk_rms_norm: Normalize queries and keys of the self-attentions.
        positional_prior: Add the position code of the anchors to the tokens, as published; False only for the ablation.
        position_scale: Factor of anchor positions before their code; 1 as published.
        projected_channels: Channels of image features at the anchors' projections (`Conditions.projected`), which are
            added to the tokens; 0 as published. Not in the paper: a small transformer hardly learns from image tokens
            alone where each anchor is seen in a frame.
    """

    in_channels: int = 16
    out_channels: int = 16
    model_channels: int = 512
    static_cond_channels: int = 14
    image_cond_channels: int = 1024
    num_blocks: int = 12
    num_heads: int = 16
    mlp_ratio: float = 4
    qk_rms_norm: bool = True
    positional_prior: bool = True
    position_scale: float = 1.0
    projected_channels: int = 0


class VariationBlock(nn.Module):
    """Block: attention within a frame, attention of each anchor over time, to images, to the splat, feed-forward.

    The temporal attention has no position code: the order of frames comes from the image tokens alone. Self-attentions and
    the feed-forward are modulated and gated by the timestep, cross-attentions are not.

    Args:
        channels: Channels D of the tokens.
        heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward as a multiple of D.
        qk_rms_norm: Normalize queries and keys of the self-attentions.

    Source:
        GVFDiffusion, figure 3; released code (DiT block).
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float, qk_rms_norm: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.norm2 = LayerNorm(channels)
        self.norm3 = LayerNorm(channels, affine=True)
        self.norm4 = LayerNorm(channels, affine=True)
        self.norm5 = LayerNorm(channels)
        self.spatial_self_attn = Attention(channels, heads, qk_rms_norm=qk_rms_norm)
        self.temporal_self_attn = Attention(channels, heads, qk_rms_norm=qk_rms_norm)
        self.image_cross_attn = Attention(channels, heads, channels)
        self.static_cross_attn = Attention(channels, heads, channels)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = adaptive_modulation(channels, 6)
        self.adaLN_modulation_temporal = adaptive_modulation(channels, 3)

    def forward(self, x: Tensor, time: Tensor, image: Tensor, canonical: Tensor) -> Tensor:
        """Update tokens.

        Args:
            x: Tokens [B, T, N, D].
            time: Timestep embedding [B, D].
            image: Image tokens of each frame [B, T, L, D].
            canonical: Tokens of the splat [B, S, D].

        Returns:
            [B, T, N, D].
        """
        batch, frames = x.shape[:2]
        vectors = self.adaLN_modulation(time)[:, None, None].chunk(6, dim=-1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = vectors
        within = modulate(self.norm1(x), shift, scale).flatten(0, 1)
        x = x + gate * self.spatial_self_attn(within).unflatten(0, (batch, frames))
        shift, scale, gate = self.adaLN_modulation_temporal(time)[:, None, None].chunk(3, dim=-1)
        over = modulate(self.norm2(x), shift, scale).transpose(1, 2).flatten(0, 1)
        x = x + gate * self.temporal_self_attn(over).unflatten(0, (batch, -1)).transpose(1, 2)
        tokens = x.flatten(0, 1)
        tokens = tokens + self.image_cross_attn(self.norm3(tokens), image.flatten(0, 1))
        # the splat is the same at all frames
        tokens = tokens.unflatten(0, (batch, frames)).flatten(1, 2)
        tokens = tokens + self.static_cross_attn(self.norm4(tokens), canonical)
        x = tokens.unflatten(1, (frames, -1))
        return x + mlp_gate * self.mlp(modulate(self.norm5(x), mlp_shift, mlp_scale))


class VariationFinal(nn.Module):
    """Modulated norm and a Linear to the velocity; both initialized to zero.

    Args:
        channels: Channels D of the tokens.
        out_channels: Channels of the velocity.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.linear = zeroed(nn.Linear(channels, out_channels))
        self.adaLN_modulation = adaptive_modulation(channels, 2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """[B, T, N, D] tokens and [B, D] timestep embeddings to [B, T, N, out_channels]."""
        shift, scale = self.adaLN_modulation(time)[:, None, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm(x), shift, scale))


class VariationDit(nn.Module):
    """Velocity of noisy variation-field latents.

    Args:
        shape: The architecture.

    Source:
        GVFDiffusion, section 3.2.

    Example:
        predict = guided(dit, conditions, image_scale=3.0)
        for sample in multistep(predict, noise, CosineSchedule(), steps=20):
            latents = sample.latents
    """

    def __init__(self, shape: VariationDitShape = VariationDitShape()) -> None:
        super().__init__()
        self.shape = shape
        channels = shape.model_channels
        self.t_embedder = TimestepEmbedding(channels)
        self.input_layer = nn.Linear(shape.in_channels, channels)
        self.blocks = nn.ModuleList(
            VariationBlock(channels, shape.num_heads, shape.mlp_ratio, shape.qk_rms_norm)
            for _ in range(shape.num_blocks)
        )
        self.final_layer = VariationFinal(channels, shape.out_channels)
        self.static_cond_proj = nn.Linear(shape.static_cond_channels, channels)
        self.image_cond_proj = nn.Linear(shape.image_cond_channels, channels)
        if shape.projected_channels:
            self.projected_proj = nn.Linear(shape.projected_channels, channels)
        self.dtype = torch.float32

    def cast_torso(self, dtype: torch.dtype) -> None:
        """Compute the blocks in `dtype`; input, output, norms and timesteps stay in float32."""
        self.dtype = dtype
        cast_torso(self.blocks, dtype)

    def forward(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noisy latents [B, T, N, C].
            t: The network's times [B], 0 to 999.
            conditions: Of B samples.

        Returns:
            Velocity v = α ε − σ z_0, [B, T, N, out_channels].
        """
        h = self.input_layer(x)
        if self.shape.positional_prior:
            anchors = conditions.anchors * self.shape.position_scale
            h = h + position_code(anchors, self.shape.model_channels)[:, None]
        if self.shape.projected_channels:
            if conditions.projected is None:
                raise ValueError("this transformer takes image features at the anchors' projections")
            h = h + self.projected_proj(conditions.projected.to(x.dtype))
        h = h.to(self.dtype)
        time = self.t_embedder(t)
        image = self.image_cond_proj(conditions.image_tokens.to(x.dtype)).to(self.dtype)
        canonical = self.static_cond_proj(conditions.canonical_tokens.to(x.dtype)).to(self.dtype)
        for block in self.blocks:
            h = block(h, time.to(self.dtype), image, canonical)
        return self.final_layer(h.to(x.dtype), time)
