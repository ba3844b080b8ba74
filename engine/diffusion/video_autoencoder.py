"""The causal 3D autoencoder of CogVideoX (AutoencoderKLCogVideoX of diffusers), in tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .tiles import tiled

# latent frames after the first that diffusers decodes together: an even number of latent frames gives wrong frames
GROUP = 2
# shortest side of a tile, in latents
SMALLEST_TILE = 2


class VideoAutoencoder:
    """Videos [B, T, H, W, 3] in 0..1 to latents [B, C, T', h, w] and back, in the precision of the weights.

    Args:
        vae: AutoencoderKLCogVideoX.
        in_tiles: Frames larger than half the size that it was made for are coded in tiles of that half.
    """

    def __init__(self, vae: Any, in_tiles: bool = True) -> None:
        self.vae, config = vae, vae.config
        self.space_factor = 2 ** (len(config.block_out_channels) - 1)
        self.time_factor = int(config.temporal_compression_ratio)
        # latents are multiplied by it for the diffusion model
        self.scale = float(config.scaling_factor)
        # CogVideoX 1.5 was trained with the conditioning image's latents divided by the factor instead
        self.condition_scale = (
            1 / self.scale if getattr(config, "invert_scale_latents", False) else self.scale
        )
        self._tile = (self._half(config.sample_height), self._half(config.sample_width)) if in_tiles else None

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, not scaled, float32."""
        pixels = (images * 2 - 1).permute(0, 4, 1, 2, 3)
        moments = self._coded(
            lambda part: self.vae.encode(part).latent_dist.parameters, pixels, self.space_factor, 1
        )
        mean, log_variance = moments.float().chunk(2, dim=1)
        return mean, (log_variance.clamp(-30, 20) / 2).exp()

    def decode(self, latents: Tensor) -> Tensor:
        """Videos of scaled latents, not clamped, float32."""
        if (latents.shape[2] - 1) % GROUP:
            raise ValueError(f"{latents.shape[2]} latent frames cannot be decoded; their number must be odd")
        frames = self._coded(
            lambda part: self.vae.decode(part).sample, latents / self.scale, 1, self.space_factor
        )
        return (frames.float() / 2 + 0.5).permute(0, 2, 3, 4, 1)

    def _coded(self, code: Callable[[Tensor], Tensor], x: Tensor, unit: int, out_unit: int) -> Tensor:
        return code(x) if self._tile is None else tiled(code, x, self._tile, unit, out_unit)

    def _half(self, side: int) -> int:
        return max(int(side) // (2 * self.space_factor), SMALLEST_TILE)
