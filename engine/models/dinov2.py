"""Image tokens of DINOv2 with registers (Oquab et al. 2023; Darcet et al., ICLR 2024), as TRELLIS and GVFDiffusion take them.

The model comes from transformers and a local folder, such as that of `facebook/dinov2-with-registers-large`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .transformers_folder import ModelFolder, class_of, on_device

# of ImageNet
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# images that are encoded at once
BATCH = 8


class ImageEncoder:
    """DINOv2 with registers; its weights are loaded inside `on` and freed afterwards.

    Args:
        folder: As `save_pretrained` writes it.
        place: Where such folders belong, in errors.

    Raises:
        InputError: Another model's folder, an incomplete one, or transformers is missing or too old.

    Example:
        encoder = ImageEncoder("models/gs4d/trellis/dinov2-with-registers-large")
        with encoder.on(torch.device("cuda")):
            cond = encoder.normalized_tokens(images)
    """

    def __init__(self, folder: Path | str, place: str = "models/gs4d") -> None:
        self.folder = ModelFolder(folder, ("dinov2_with_registers",), "DINOv2 with registers", place)
        class_of("Dinov2WithRegistersModel")
        config = self.folder.read("config.json")
        # transformers leaves out what equals its defaults
        self.channels = int(config.get("hidden_size", 768))
        self.registers = int(config.get("num_register_tokens", 4))
        self.pixels = int(config.get("image_size", 224))
        self.patches = (self.pixels // int(config.get("patch_size", 16))) ** 2
        self._model: Any = None

    @contextmanager
    def on(
        self, device: torch.device | str, dtype: torch.dtype = torch.float32
    ) -> Generator[ImageEncoder, None, None]:
        """Inside, the model is loaded, on the device and in this precision."""
        model = self.folder.load("Dinov2WithRegistersModel").to(dtype)
        # the networks take tokens from before the last norm
        model.layernorm = torch.nn.Identity()
        try:
            with on_device(model, torch.device(device)) as self._model:
                yield self
        finally:
            self._model = None

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Tokens before the last norm; inside of `on`.

        Args:
            images: [F, H, W, 3] in 0..1, square; resized to the model's size.

        Returns:
            [F, 1 + registers + patches, C] on the model's device: class token, registers, patches row by row.
        """
        model = self._model
        if model is None:
            raise RuntimeError("the image encoder is used outside of `on`")
        planes = images[..., :3].permute(0, 3, 1, 2).float()
        if planes.shape[-2:] != (self.pixels, self.pixels):
            size = (self.pixels, self.pixels)
            planes = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
        mean, deviation = (torch.tensor(v)[:, None, None].to(planes) for v in (MEAN, DEVIATION))
        pixels = ((planes.clamp(0, 1) - mean) / deviation).to(model.device, model.dtype)
        return torch.cat([model(pixel_values=part).last_hidden_state for part in pixels.split(BATCH)])

    def normalized_tokens(self, images: Tensor) -> Tensor:
        """All tokens after a layer norm without parameters, as TRELLIS takes them; arguments as `tokens`."""
        tokens = self.tokens(images)
        return F.layer_norm(tokens.float(), tokens.shape[-1:])

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Patches, then the class token, as GVFDiffusion takes them: [F, patches + 1, C], without norm or registers."""
        tokens = self.tokens(images)
        return torch.cat([tokens[:, 1 + self.registers :], tokens[:, :1]], dim=1).float()
