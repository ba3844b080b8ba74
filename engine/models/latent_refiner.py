"""The refinement layer of ED-NeRF: a 2D network that corrects rendered latents.

Source: ED-NeRF (Park et al., ICLR 2024, section 3.2): residual blocks and self-attention after rendering, because an
autoencoder mixes neighboring pixels and independent rays do not. The paper does not give widths. Here: a residual block,
attention over all latent pixels, a residual block, and a last convolution initialized to zero, so that the layer starts
as the identity. With the width of an autoencoder's mid block, the blocks can be initialized from it ("paper-like",
`load_middle`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class RefinerShape:
    """Architecture of a refiner.

    Args:
        latent_channels: Channels of input and output.
        width: Channels of the blocks.
        heads: Attention heads.
        groups: Groups of the GroupNorms.
        blocks: Residual blocks; attention follows the first.
    """

    latent_channels: int = 4
    width: int = 128
    heads: int = 1
    groups: int = 32
    blocks: int = 2

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x))))))."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class Attention(nn.Module):
    """Self-attention over all h·w latent pixels."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.q, self.k, self.v, self.proj = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.norm(x)

        def split(part: Tensor) -> Tensor:
            # [B, heads, h·w, c / heads]
            return part.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)

        mixed = F.scaled_dot_product_attention(split(self.q(y)), split(self.k(y)), split(self.v(y)))
        return x + self.proj(mixed.transpose(2, 3).reshape(b, c, h, w))


class LatentRefiner(nn.Module):
    """Refine latents [B, C, h, w] of any size: z + g(z), where g starts as zero.

    Args:
        shape: The architecture.

    Raises:
        ValueError: The width is not a multiple of the groups and the heads.

    Source:
        ED-NeRF (Park et al., ICLR 2024), section 3.2.
    """

    def __init__(self, shape: RefinerShape = RefinerShape()) -> None:
        super().__init__()
        if shape.width % shape.groups or shape.width % shape.heads or shape.blocks < 1:
            raise ValueError(f"a refiner of {shape}: width must be a multiple of groups and of heads")
        self.shape = shape
        self.conv_in = nn.Conv2d(shape.latent_channels, shape.width, 3, padding=1)
        self.res1 = ResidualBlock(shape.width, shape.groups)
        self.attn = Attention(shape.width, shape.heads, shape.groups)
        for i in range(2, shape.blocks + 1):
            self.add_module(f"res{i}", ResidualBlock(shape.width, shape.groups))
        self.norm_out = nn.GroupNorm(shape.groups, shape.width, eps=1e-6)
        self.conv_out = nn.Conv2d(shape.width, shape.latent_channels, 3, padding=1)
        with torch.no_grad():
            for parameter in self.conv_out.parameters():
                parameter.zero_()

    def forward(self, latents: Tensor) -> Tensor:
        x = self.attn(self.res1(self.conv_in(latents)))
        for i in range(2, self.shape.blocks + 1):
            x = self.get_submodule(f"res{i}")(x)
        return latents + self.conv_out(F.silu(self.norm_out(x)))

    @torch.no_grad()
    def load_middle(self, middle: Mapping[str, Tensor]) -> None:
        """Initialize the blocks from an autoencoder's mid block; the last convolution stays zero.

        Args:
            middle: Tensors by this class's names (conv_in, res1, attn, res2); see `MidBlock`.

        Raises:
            KeyError: A name is unknown.
            RuntimeError: A shape differs.
        """
        own = self.state_dict()
        for name, tensor in middle.items():
            own[name].copy_(tensor.reshape(own[name].shape))
