"""Latents of the images of an edit: each image is encoded once and alone, so that nothing depends on the chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..diffusion.in_parallel import each, is_split
from .score import check_finite

# images through the VAE at a time: its full-size layers need the most memory, and more images are not faster
AT_ONCE = 2


class ImageLatents:
    """The images of an edit as a model's latents, made on demand and kept on the CPU.

    Args:
        backbone: A model with image conditioning.
        originals: [F, H, W, 3] in 0..1, the conditioning images.
        noised: [F, H, W, 3] in 0..1, the images that denoising starts from; None: the originals.
        seed: Of the starting noise.
    """

    def __init__(self, backbone: Backbone, originals: Tensor, noised: Tensor | None, seed: int) -> None:
        self.backbone, self.originals, self.noised, self.seed = backbone, originals, noised, seed
        # [C, h, w] on the CPU
        self._of_originals: dict[int, Tensor] = {}
        self._of_noised: dict[int, Tensor] = {}
        # [F, C, h, w]
        self._noise: Tensor | None = None

    def conditions(self, frames: list[int]) -> Tensor:
        """Conditioning latents [f, C, h, w] of the originals."""
        return self._encoded(self.originals, frames, self._of_originals)

    def starts(self, frames: list[int]) -> Tensor:
        """Conditioning latents [f, C, h, w] of the images that denoising starts from."""
        if self.noised is None:
            return self.conditions(frames)
        return self._encoded(self.noised, frames, self._of_noised)

    def noise(self, frames: list[int]) -> Tensor:
        """Starting noise [f, C, h, w], which depends neither on the chunks nor on the device."""
        if self._noise is None:
            generator = torch.Generator().manual_seed(self.seed)
            shape = (len(self.originals), *self.conditions(frames).shape[1:])
            self._noise = torch.randn(shape, generator=generator)
        return self._noise[frames].to(self.backbone.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Images [f, H, W, 3] in 0..1 on the CPU of latents [f, C, h, w]. Raises InputError where they are not finite."""
        parts = latents.split(1 if is_split(self.backbone) else AT_ONCE)
        images = torch.cat(each(self.backbone, self._decoded, parts))
        check_finite(images, self.backbone.name)
        return images

    def _decoded(self, latents: Tensor) -> Tensor:
        return self.backbone.decode(latents).float().clamp(0, 1).cpu()

    def _encoded(self, images: Tensor, frames: list[int], done: dict[int, Tensor]) -> Tensor:
        missing = [i for i in dict.fromkeys(frames) if i not in done]

        def encode(i: int) -> Tensor:
            return self.backbone.encode_image_latents(images[i : i + 1].to(self.backbone.device))[0].cpu()

        done.update(zip(missing, each(self.backbone, encode, missing), strict=True))
        return torch.stack([done[i] for i in frames]).to(self.backbone.device)
