"""Stage 4 of TRELLIS: the sparse transformer that decodes a latent per voxel into Gaussians.

GVFDiffusion's canonical decoder is the same network with 8 Gaussians per voxel and other names.

Source: TRELLIS (Xiang et al., CVPR 2025), section 3.2 and released code (SLatGaussianDecoder); GVFDiffusion (Zhang et
al., ICCV 2025), released code (SparseTransformerVAE).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import position_code
from .blocks import WindowBlock, cast_torso
from .raw_gaussians import GaussianFormat, RawGaussians, decode_features, offset_perturbation
from .voxels import Voxels


@dataclass(frozen=True)
class GaussianDecoderShape:
    """Architecture of the Gaussian decoder; the defaults are the published model's (85.4 M parameters).

    Args:
        resolution: Cells of the grid per axis.
        model_channels: Channels of the tokens.
        latent_channels: Channels of the latents.
        num_blocks: Transformer blocks; every second one shifts its windows by half of their size.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forwards as a multiple of `model_channels`.
        window_size: Cells of a window per axis.
        gaussians: How features become Gaussians.
    """

    resolution: int = 64
    model_channels: int = 768
    latent_channels: int = 8
    num_blocks: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4
    window_size: int = 8
    gaussians: GaussianFormat = field(default_factory=GaussianFormat)


# GVFDiffusion's canonical decoder (85.1 M parameters)
GVF_CANONICAL = GaussianDecoderShape(gaussians=GaussianFormat(count=8))


class GaussianDecoder(nn.Module):
    """Gaussians of structured latents [V, C] on voxels.

    Args:
        shape: The architecture.

    Source:
        TRELLIS, section 3.2.
    """

    def __init__(self, shape: GaussianDecoderShape = GaussianDecoderShape()) -> None:
        super().__init__()
        self.shape = shape
        self.input_layer = nn.Linear(shape.latent_channels, shape.model_channels)
        self.blocks = nn.ModuleList(
            WindowBlock(shape.model_channels, shape.num_heads, shape.mlp_ratio)
            for _ in range(shape.num_blocks)
        )
        self.out_layer = nn.Linear(shape.model_channels, shape.gaussians.channels)
        form = shape.gaussians
        self.offset_perturbation: Tensor
        self.register_buffer("offset_perturbation", offset_perturbation(form.count, form.voxel_size))
        self.dtype = torch.float32

    def cast_torso(self, dtype: torch.dtype) -> None:
        """Compute the blocks in `dtype`; input, output and norms stay in float32."""
        self.dtype = dtype
        cast_torso(self.blocks, dtype)

    def features(self, latents: Tensor, voxels: Voxels) -> Tensor:
        """Decode latents [V, C] to raw features [V, 14 · Gaussians per voxel]."""
        h = self.input_layer(latents)
        h = (h + position_code(voxels.coords[:, 1:], h.shape[-1])).to(self.dtype)
        size = self.shape.window_size
        for i, block in enumerate(self.blocks):
            h = block(h, voxels.windows(size, size // 2 * (i % 2)))
        h = h.to(latents.dtype)
        return self.out_layer(F.layer_norm(h, h.shape[-1:]))

    def forward(self, latents: Tensor, voxels: Voxels) -> list[RawGaussians]:
        """Decode latents.

        Args:
            latents: [V, C] in the order of the voxels; see `latent_flow.denormalize`.
            voxels: The occupied cells.

        Returns:
            The Gaussians of each sample; those of a voxel follow each other.
        """
        features = self.features(latents, voxels)
        samples = (voxels.sample == b for b in range(voxels.samples))
        return [
            decode_features(
                features[own],
                voxels.coords[own, 1:],
                self.shape.resolution,
                self.offset_perturbation,
                self.shape.gaussians,
            )
            for own in samples
        ]


def gvf_name(name: str) -> str | None:
    """Name in `GaussianDecoder` of a tensor of GVFDiffusion's canonical VAE; None: not a part of its decoder.

    The perturbation is left out too: the released code computes it again.
    """
    head, _, rest = name.removeprefix("module.").partition(".")
    own = {"decoder": "blocks", "from_latent": "input_layer", "out_layer": "out_layer"}.get(head)
    return None if own is None else f"{own}.{rest}"


def from_gvf_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of GVFDiffusion's canonical decoder, or of the whole canonical VAE, by the names of `GaussianDecoder`."""
    named = {gvf_name(name): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in named.items() if name is not None}
