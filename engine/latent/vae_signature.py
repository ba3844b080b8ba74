"""Identify the autoencoder that latents belong to by its output, not by a file name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..errors import InputError

# latents of the test card, along each side
SIDE = 8
# relative difference of two encodings of the card; half precision stays below 0.01
ALIKE = 0.05


@dataclass(frozen=True, eq=False)
class VaeSignature:
    """Channel count, scale factor and encoded test card of an autoencoder.

    Equal for the same weights, regardless of the loader and nearly so of the precision.

    Args:
        name: Name of its diffusion model.
        channels: Latent channels C.
        factor: Pixels per latent, along each side.
        card: Encoded test card [C, 8, 8], float32 on the CPU.
    """

    name: str
    channels: int
    factor: int
    card: Tensor

    @staticmethod
    def of(backbone: Backbone) -> VaeSignature:
        with torch.no_grad():
            image = test_card(SIDE * backbone.vae_scale_factor)[None]
            card = backbone.encode(image.to(backbone.device))[0].float().cpu()
        return VaeSignature(backbone.name, backbone.latent_channels, backbone.vae_scale_factor, card)

    def check(self, backbone: Backbone) -> None:
        """InputError if `backbone` has a different autoencoder than the latents."""
        theirs = VaeSignature.of(backbone)
        if (theirs.channels, theirs.factor) != (self.channels, self.factor):
            raise InputError(
                "LAT-005",
                f"The latent field has {self.channels} channels at 1/{self.factor} of the image size (trained with "
                f"{self.name}), but {theirs.name} has {theirs.channels} at 1/{theirs.factor}; train the latent field "
                f"with {theirs.name}, or connect {self.name}.",
            )
        apart = float((theirs.card - self.card).norm() / self.card.norm().clamp(min=1e-6))
        if not apart <= ALIKE:
            raise InputError(
                "LAT-006",
                f"{theirs.name} uses a different VAE than {self.name}, which the latent field was trained with (test "
                f"encodings differ by {apart:.0%}); train the latent field with {theirs.name}, or connect {self.name}.",
            )


def test_card(side: int) -> Tensor:
    """An image [side, side, 3] in 0..1 with smooth colors, an edge and stripes."""
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    stripes = 0.5 + 0.25 * torch.sin(12 * torch.pi * (x + y))
    image = torch.stack([x, y, 1 - 0.5 * (x + y)], dim=-1)
    image = torch.where((x > 0.5)[..., None], stripes[..., None] * torch.tensor([1.0, 0.6, 0.3]), image)
    return image.clamp(0, 1)
