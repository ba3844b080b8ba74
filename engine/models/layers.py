"""Transformer layers that published networks share: attention, feed-forwards, adaptive norms and position codes.

TRELLIS, the networks of GVFDiffusion and those of later papers are configurations of these layers. State-dict names are
the papers' own, so that published weights load without renaming. Norms and RMS norms compute in float32 and return the
dtype of their input: the blocks may hold half-precision weights between float32 norms, as the published files do.

Source: TRELLIS (Xiang et al., CVPR 2025) and GVFDiffusion (Zhang et al., ICCV 2025), released code; adaptive layer norms
after DiT (Peebles and Xie, ICCV 2023), GEGLU after Shazeer (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (q [..., L, heads, d], k [..., S, heads, d], v [..., S, heads, d]) -> [..., L, heads, d]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of every query to every key.

    Args:
        q: Queries [..., L, heads, d].
        k: Keys [..., S, heads, d].
        v: Values [..., S, heads, d].

    Returns:
        Mixed values [..., L, heads, d].
    """
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(-3, -2)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32; without parameters unless `affine`.

    Args:
        channels: Size of the last axis.
        affine: Learn a weight and a bias per channel.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, affine: bool = False, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps, elementwise_affine=affine)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).to(input.dtype)


class HeadRMSNorm(nn.Module):
    """RMS norm of queries or keys: x / |x| · gamma · √d, with a gamma of its own for every head.

    Args:
        heads: Attention heads.
        head_channels: Channels d of a head.
    """

    def __init__(self, heads: int, head_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [..., heads, d]."""
        unit = F.normalize(x.float(), dim=-1)
        return (unit * self.gamma * self.gamma.shape[-1] ** 0.5).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention over the tokens of a sequence, or from them to the tokens of another.

    Args:
        channels: Channels C of the tokens.
        heads: Attention heads; C is a multiple of them.
        context_channels: Channels of the tokens attended to. None: self-attention with one projection `to_qkv`
            [3, heads, d]; a number: `to_q` and `to_kv` [2, heads, d], also for self-attention in networks that store
            it so.
        qkv_bias: Biases in the projections of q, k and v; `to_out` always has one.
        qk_rms_norm: Normalize queries and keys (`HeadRMSNorm`).

    Raises:
        ValueError: `channels` is not a multiple of `heads`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        context_channels: int | None = None,
        qkv_bias: bool = True,
        qk_rms_norm: bool = False,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be split into {heads} heads")
        self.heads = heads
        if context_channels is None:
            self.to_qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        else:
            self.to_q = nn.Linear(channels, channels, bias=qkv_bias)
            self.to_kv = nn.Linear(context_channels, 2 * channels, bias=qkv_bias)
        self.fused = context_channels is None
        self.qk_rms_norm = qk_rms_norm
        if qk_rms_norm:
            self.q_rms_norm = HeadRMSNorm(heads, channels // heads)
            self.k_rms_norm = HeadRMSNorm(heads, channels // heads)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor | None = None, attend: Attend = attend_all) -> Tensor:
        """Attend from `x` to `context`, or to `x` itself.

        Args:
            x: Tokens [..., L, C].
            context: Tokens to attend to [..., S, context channels]; None: `x`. Not used with `to_qkv`.
            attend: Which queries attend to which keys, given as heads; all to all of a sequence by default.

        Returns:
            Tokens [..., L, C].
        """
        if self.fused:
            q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        else:
            q = self.to_q(x).unflatten(-1, (self.heads, -1))
            k, v = self.to_kv(x if context is None else context).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        if self.qk_rms_norm:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        return self.to_out(attend(q, k, v).flatten(-2))


class PreNorm(nn.Module):
    """Apply a layer to normalized tokens, and to normalized context tokens where there are any.

    Args:
        fn: The layer; its parameters are named `fn.*`.
        channels: Channels of the tokens.
        context_channels: Channels of the context tokens, if the layer takes any.
    """

    def __init__(self, fn: nn.Module, channels: int, context_channels: int | None = None) -> None:
        super().__init__()
        self.fn = fn
        self.norm = LayerNorm(channels)
        self.norm_context = None if context_channels is None else LayerNorm(context_channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None or self.norm_context is None:
            return self.fn(self.norm(x))
        return self.fn(self.norm(x), self.norm_context(context))


class FeedForward(nn.Module):
    """Linear, tanh-GELU, Linear on [..., C], named `mlp.{0,2}`.

    Args:
        channels: Channels C of the tokens.
        ratio: Hidden channels as a multiple of C.
    """

    def __init__(self, channels: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: self-attention, then a feed-forward; both norms have parameters.

    Args:
        channels: Channels C of the tokens.
        heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward as a multiple of C.
        qk_rms_norm: Normalize queries and keys.
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float = 4.0, qk_rms_norm: bool = True) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, affine=True)
        self.attn = Attention(channels, heads, qk_rms_norm=qk_rms_norm)
        self.norm2 = LayerNorm(channels, affine=True)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Update tokens [..., L, C]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Geglu(nn.Module):
    """a · gelu(b) of the two halves [a, b] of the last axis, with the exact GELU."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)


class GegluFeedForward(nn.Module):
    """Linear, GEGLU, Linear on [..., C], named `net.{0,2}`.

    Args:
        channels: Channels C of the tokens.
        ratio: Hidden channels behind the gate as a multiple of C.
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(channels, 2 * ratio * channels), Geglu(), nn.Linear(ratio * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Set the weights and the bias of a new layer to zero, so that what follows it starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def adaptive_modulation(channels: int, chunks: int) -> nn.Sequential:
    """SiLU and a Linear (initialized to zero) from a timestep embedding [B, C] to `chunks` vectors [B, chunks · C].

    A transformer block takes six: shift, scale and gate of the attention, then shift, scale and gate of the
    feed-forward. A block with one layer takes three (shift, scale, gate), a final norm two (shift, scale).
    """
    return nn.Sequential(nn.SiLU(), zeroed(nn.Linear(channels, chunks * channels)))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x · (1 + scale) + shift; `shift` and `scale` broadcast to `x`."""
    return x * (1 + scale) + shift


def timestep_code(t: Tensor, channels: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal code of timesteps, cosines first.

    Args:
        t: Timesteps [B], any float or integer type.
        channels: Even number of channels of the code.
        max_period: Period of the slowest frequency over 2π.

    Returns:
        [B, channels], float32.
    """
    half = channels // 2
    frequencies = torch.exp(
        -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )
    phases = t[:, None].float() * frequencies
    return torch.cat([phases.cos(), phases.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Embedding [B, C] of timesteps [B]: a 256-channel `timestep_code`, then Linear, SiLU, Linear (`mlp.{0,2}`)."""

    def __init__(self, channels: int, code_channels: int = 256) -> None:
        super().__init__()
        self.code_channels = code_channels
        self.mlp = nn.Sequential(nn.Linear(code_channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_code(t, self.code_channels).to(next(self.parameters()).dtype))


def position_code(positions: Tensor, channels: int) -> Tensor:
    """Sine position code of TRELLIS and of GVFDiffusion's transformer.

    n = ⌊channels / 3 / 2⌋ frequencies 10000^(−i/n) per axis, [sin | cos] of an axis together, axes in order, padded
    with zeros to `channels`.

    Args:
        positions: Grid cells or points [..., 3].
        channels: Channels of the code.

    Returns:
        [..., channels], float32.
    """
    n = channels // 3 // 2
    frequencies = 1 / 10000 ** (torch.arange(n, dtype=torch.float32, device=positions.device) / n)
    phases = positions.float()[..., None] * frequencies
    code = torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)
    return F.pad(code, (0, channels - code.shape[-1]))


class PointPositionCode(nn.Module):
    """Sine position code of GVFDiffusion's variation-field VAE, evaluated in float64.

    E = channels / 6 frequencies 10000^(−i / (E/2)) per axis: the exponent runs to nearly 2, unlike in `position_code`.
    The frequencies are stored in published files as `omega` [E].

    Args:
        channels: Channels of the code, a multiple of 6.

    Raises:
        ValueError: `channels` is not a multiple of 6.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 6:
            raise ValueError(f"{channels} channels cannot be split into sines and cosines of three axes")
        count = channels // 6
        self.omega: Tensor
        self.register_buffer("omega", 10000 ** -(torch.arange(count, dtype=torch.float64) / (count / 2)))

    def forward(self, positions: Tensor) -> Tensor:
        """Encode points [..., 3] as [..., channels], in the dtype of the points."""
        phases = positions.double()[..., None] * self.omega.double()
        return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2).to(positions.dtype)
