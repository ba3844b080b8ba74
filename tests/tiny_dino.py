"""Folders of DINO and DINOv2 of RANDOM weights, as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# class of the model and of its configuration, and the patch size, by `model_type`
KINDS = {
    "vit": ("ViTModel", "ViTConfig", 16),
    "dinov2": ("Dinov2Model", "Dinov2Config", 14),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", 14),
}


def save_dino(folder: Path, kind: str = "vit") -> Path:
    """A folder of a model for images of 4 × 4 patches."""
    transformers = pytest.importorskip("transformers", reason="image features need transformers")
    model_class, config_class, patch = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = getattr(transformers, config_class)(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=4 * patch,
            patch_size=patch,
        )
        # the published folder of the first DINO has no pooler
        options = {"add_pooling_layer": False} if kind == "vit" else {}
        model = getattr(transformers, model_class)(config, **options)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return folder
