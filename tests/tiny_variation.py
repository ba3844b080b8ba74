"""Folders of variation-field models with random weights: one that describes itself, and one in the published layout."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.models.trellis import RawGaussians
from engine.models.variation_field import (
    ConditioningCamera,
    ImageEncoder,
    ImageEncoderShape,
    Sampling,
    VariationConfig,
    VariationDit,
    VariationDitShape,
    VariationVae,
    VariationVaeShape,
)

ENCODER = ImageEncoderShape(
    image_size=32, channels=8, token_channels=12, projected_channels=10, levels=2, reach=1
)
DIT = VariationDitShape(8, 8, 48, 14, 12, num_blocks=2, num_heads=4, projected_channels=10)
VAE = VariationVaeShape(depth=1, dim=48, num_latents=16, latent_dim=8, heads=4)
CONFIG = VariationConfig(
    DIT, VAE, ENCODER, ConditioningCamera(2.0, 36.0, 32), 20, False, Sampling("multistep", 3, frames=6)
)


def awake(network, std=0.1, zero=()):
    """All weights random, those that start at zero too; those whose name begins with one of `zero` are zero."""
    for name, parameter in network.named_parameters():
        parameter.data.normal_(std=std)
        if name.startswith(tuple(zero) or "-"):
            parameter.data.zero_()
    return network.state_dict()


def save_variation(folder: Path, config: VariationConfig = CONFIG, still: bool = False) -> Path:
    """A folder; `still`: its decoder changes nothing, as before training."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        states = {
            "ema_diffusion": awake(VariationDit(config.transformer)),
            "ema_deformation": awake(VariationVae(config.vae), zero=("to_outputs",) if still else ()),
        }
        if config.image_encoder is not None:
            states["image_encoder"] = awake(ImageEncoder(config.image_encoder))
        for stem, state in states.items():
            save_file(state, folder / f"{stem}.safetensors")
        for name, size in (("static", 14), ("deformation", config.vae.latent_dim)):
            save_file({"tensor": 0.1 * torch.randn(size)}, folder / f"{name}_mean.safetensors")
            save_file({"tensor": torch.rand(size) + 0.5}, folder / f"{name}_std.safetensors")
    (folder / "gs4d.json").write_text(json.dumps(config.to_json()))
    return folder


def published(channels: int) -> VariationConfig:
    """As published, but small: image tokens of `channels` come from outside."""
    transformer = replace(DIT, image_cond_channels=channels, projected_channels=0)
    return replace(CONFIG, transformer=transformer, image_encoder=None)


def ball(count: int = 200, seed: int = 0):
    """A colored ball of Gaussians in the model's frame."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = 0.45 * means * torch.rand(count, 1, generator=generator) ** (1 / 3)
    return RawGaussians(
        means,
        torch.randn(count, 3, generator=generator),
        torch.full((count, 3), 3.0),
        0.1 * torch.randn(count, 4, generator=generator),
        torch.full((count,), 4.0),
    ).to_gaussians()
