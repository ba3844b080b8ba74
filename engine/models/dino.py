"""Image features of DINO and DINOv2 (class tokens), from a local folder of transformers.

Source: DINO: Caron et al., ICCV 2021; DINOv2: Oquab et al. 2023.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dinov2 import BATCH, DEVIATION, MEAN
from .transformers_folder import ModelFolder

# by `model_type`; the first DINO is a plain vision transformer
CLASSES = {
    "vit": "ViTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
}
# shorter side of the images, as in VBench
PIXELS = 224


class DinoFeatures:
    """Unit features of images.

    Args:
        folder: As `save_pretrained` writes it, such as that of `facebook/dino-vitb16`.
        device: Torch device.

    Raises:
        InputError: Another model's folder, an incomplete one, or transformers is missing or too old.
    """

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        files = ModelFolder(folder, tuple(CLASSES), "DINO", "models/gs4d")
        self.name = files.name
        # the pooler is not used, and DINO's folders do not have it
        options: dict[str, Any] = {"add_pooling_layer": False} if files.kind == "vit" else {}
        self._more: dict[str, Any] = {"interpolate_pos_encoding": True} if files.kind == "vit" else {}
        self.model: Any = files.load(CLASSES[files.kind], **options).to(device)
        self.patch = int(self.model.config.patch_size)

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """Unit features [F, D] of images [F, H, W, 3] in 0..1, their shorter side resized to 224 pixels."""
        height, width = images.shape[1:3]
        factor = PIXELS / min(height, width)
        size = tuple(max(1, round(s * factor / self.patch)) * self.patch for s in (height, width))
        planes = images[..., :3].permute(0, 3, 1, 2).float()
        planes = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
        mean, deviation = (torch.tensor(v)[:, None, None].to(planes) for v in (MEAN, DEVIATION))
        pixels = ((planes.clamp(0, 1) - mean) / deviation).to(self.model.device)
        tokens = [
            self.model(pixel_values=part, **self._more).last_hidden_state[:, 0]
            for part in pixels.split(BATCH)
        ]
        return F.normalize(torch.cat(tokens).float(), dim=-1)
