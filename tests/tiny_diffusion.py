"""A whole latent diffusion model of a few ten thousand RANDOM weights, built in code: shapes and rules, no pictures."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.diffusion import DiscreteSchedule, ModelDefaults
from engine.diffusion.stable_diffusion import StableDiffusion

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def byte_tokenizer(length: int = 77) -> Any:
    """A CLIP tokenizer without merges: every byte is a token, so that any prompt has tokens of its own."""
    transformers = pytest.importorskip("transformers", reason="diffusion needs transformers")
    # the GPT-2 byte alphabet: printable bytes are themselves, the rest come from 256 upwards
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in own] + [chr(256 + i) for i in range(256 - len(own))]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=length)


def tiny_parts(
    seed: int = 0,
    has_image_conditioning: bool = True,
    latent_channels: int = 4,
    factor: int = 8,
    text_width: int = 32,
) -> dict[str, Any]:
    """{unet, vae, text_encoder, tokenizer} as diffusers and transformers make them, random weights."""
    diffusers = pytest.importorskip("diffusers", reason="diffusion needs diffusers")
    transformers = pytest.importorskip("transformers", reason="diffusion needs transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            sample_size=8,
            in_channels=latent_channels * (2 if has_image_conditioning else 1),
            out_channels=latent_channels,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=text_width,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        levels = factor.bit_length()  # one halving fewer than levels
        vae = diffusers.AutoencoderKL(
            block_out_channels=[8] * levels,
            in_channels=3,
            out_channels=3,
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            latent_channels=latent_channels,
            norm_num_groups=4,
            sample_size=64,
        )
        text_encoder = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=514,
                hidden_size=text_width,
                intermediate_size=37,
                num_attention_heads=4,
                num_hidden_layers=2,
                max_position_embeddings=77,
                bos_token_id=512,
                eos_token_id=513,
                pad_token_id=513,
            )
        )
    return {"unet": unet, "vae": vae, "text_encoder": text_encoder, "tokenizer": byte_tokenizer()}


def tiny_backbone(
    seed: int = 0,
    has_image_conditioning: bool = True,
    latent_channels: int = 4,
    factor: int = 8,
    prediction: str = "epsilon",
) -> StableDiffusion:
    """The parts as a backbone: 3 recommended steps at 64 pixels, so that a test of a whole edit is quick."""
    return StableDiffusion(
        **tiny_parts(seed, has_image_conditioning, latent_channels, factor),
        noise_schedule=DiscreteSchedule.from_config({**SCHEDULER, "prediction_type": prediction}),
        name="tiny random weights",
        fingerprint=f"random-{seed}-{has_image_conditioning}-{latent_channels}-{factor}-{prediction}",
        defaults=ModelDefaults(steps=3, resolution=64),
    )


def tiny_folder(folder: Path, seed: int = 0, has_image_conditioning: bool = True, **scheduler: Any) -> Path:
    """The parts saved as a diffusers folder, as a pipeline's save_pretrained would lay it out."""
    parts = tiny_parts(seed, has_image_conditioning)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**SCHEDULER, **scheduler}))
    index = {
        "_class_name": "StableDiffusionInstructPix2PixPipeline"
        if has_image_conditioning
        else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
