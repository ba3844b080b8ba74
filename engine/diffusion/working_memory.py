"""Memory that a latent diffusion model needs besides its weights, counted from the shapes of its layers.

Counted in values that live at once: what autograd keeps of the encoder (inputs of norms, activations and convolutions), the
skip connections and the widest block of the UNet, the decoder's last level. Attention is taken as fused, so that it keeps no
matrix of weights. Stable Diffusion in half precision at 512×384: 1.2 GiB for the encoder's gradient of one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .backbone import Backbone

# Stable Diffusion's own, where a model does not say
VAE_WIDTHS, VAE_LAYERS, UNET_WIDTH = (128, 256, 512, 512), 2, 320
# values per latent of the UNet that live at once, in multiples of its first width: skip connections and one block
UNET_COPIES = 25
# values per pixel of an autoencoder without gradients that live at once, in multiples of its widths at full size
VAE_COPIES = 3.5


@dataclass(frozen=True)
class ModelShapes:
    """What the memory of a model follows from.

    Args:
        vae_widths: Channels of the autoencoder's levels, from full size down.
        vae_layers: Residual blocks of an encoder level.
        unet_width: Channels of the UNet's first level.
        factor: Pixels per latent, along each side.
        item: Bytes of a value.
        branches: Guidance branches of a prediction: text and unconditional, and one more with an image.
    """

    vae_widths: tuple[int, ...]
    vae_layers: int
    unet_width: int
    factor: int
    item: int
    branches: int

    @classmethod
    def of(cls, backbone: Backbone) -> ModelShapes:
        """The shapes that a model tells of, and Stable Diffusion's for the rest."""
        vae = _config(backbone, "vae")
        unet = _config(backbone, "unet")
        dtype = getattr(backbone, "dtype", None)
        return cls(
            tuple(getattr(vae, "block_out_channels", None) or VAE_WIDTHS),
            int(getattr(vae, "layers_per_block", None) or VAE_LAYERS),
            int((getattr(unet, "block_out_channels", None) or (UNET_WIDTH,))[0]),
            backbone.vae_scale_factor,
            dtype.itemsize if isinstance(dtype, torch.dtype) else 4,
            3 if backbone.has_image_conditioning else 2,
        )

    def encoding(self, width: int, height: int, images: int = 1, differentiated: bool = False) -> int:
        """Bytes of encoding so many images at once; `differentiated`: until the gradient is computed."""
        values = self._kept() if differentiated else VAE_COPIES * self.vae_widths[0]
        return round(values * width * height * images * self.item)

    def decoding(self, width: int, height: int, images: int = 1) -> int:
        """Bytes of decoding so many images at once, without gradients."""
        return round(VAE_COPIES * max(self.vae_widths[:2]) * width * height * images * self.item)

    def predicting(self, width: int, height: int, images: int) -> int:
        """Bytes of one call of the UNet for so many images (times branches), without gradients."""
        latents = (width // self.factor) * (height // self.factor) * images
        return UNET_COPIES * self.unet_width * latents * self.item

    def _kept(self) -> float:
        """Values per pixel that autograd keeps of the encoder."""
        total, before = 3.0, self.vae_widths[0]
        for level, width in enumerate(self.vae_widths):
            # of each half of a residual block: the inputs of its norm, its activation and its convolution
            kept = 3 * (before + width) + 6 * width * (self.vae_layers - 1)
            is_last = level == len(self.vae_widths) - 1
            # what is padded and halved; at the last level the mid block (two residual blocks and attention) and the end
            kept += 21 * width if is_last else 2 * width
            total += kept / 4**level
            before = width
        return total


def _config(backbone: Backbone, part: str) -> Any:
    return getattr(getattr(backbone, part, None), "config", None)
