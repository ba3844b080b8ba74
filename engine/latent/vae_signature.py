"""Which autoencoder a latent belongs to, told from what it does and not from a file's name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..errors import InputError

SIDE = 8  # latents of the test card, along each side
ALIKE = 0.05  # relative difference of two encodings of the card: half precision stays below 0.01


@dataclass(frozen=True, eq=False)
class VaeSignature:
    """An autoencoder's channel count, factor, and what it makes of a test card: equal for the same weights, whoever
    loaded them and in whatever precision."""

    name: str  # of the model it came with
    channels: int
    factor: int  # pixels a latent, along each side
    card: Tensor  # [C, 8, 8] float32 on the CPU

    @staticmethod
    def of(backbone: Backbone) -> VaeSignature:
        with torch.no_grad():
            picture = test_card(SIDE * backbone.vae_scale_factor)[None]
            card = backbone.encode(picture.to(backbone.device))[0].float().cpu()
        return VaeSignature(backbone.name, backbone.latent_channels, backbone.vae_scale_factor, card)

    def check(self, backbone: Backbone) -> None:
        """InputError where `backbone` has another autoencoder than the one that the latents were made with."""
        theirs = VaeSignature.of(backbone)
        if (theirs.channels, theirs.factor) != (self.channels, self.factor):
            raise InputError(
                "LAT-005",
                f"The latent field has {self.channels} channels at 1/{self.factor} of the picture's size (trained with "
                f"{self.name}), {theirs.name} works with {theirs.channels} at 1/{theirs.factor}: train the latent field "
                f"with {theirs.name}, or connect {self.name}.",
            )
        apart = float((theirs.card - self.card).norm() / self.card.norm().clamp(min=1e-6))
        if not apart <= ALIKE:
            raise InputError(
                "LAT-006",
                f"The latent field was trained with the autoencoder of {self.name}; that of {theirs.name} means other "
                f"things by the same numbers (they differ by {apart:.0%}): train the latent field with {theirs.name}, or "
                f"connect {self.name}.",
            )


def test_card(side: int) -> Tensor:
    """A picture [side, side, 3] in 0..1 with smooth colours, an edge and stripes in it."""
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    stripes = 0.5 + 0.25 * torch.sin(12 * torch.pi * (x + y))
    picture = torch.stack([x, y, 1 - 0.5 * (x + y)], dim=-1)
    picture = torch.where((x > 0.5)[..., None], stripes[..., None] * torch.tensor([1.0, 0.6, 0.3]), picture)
    return picture.clamp(0, 1)
