"""A whole CogVideoX of a few ten thousand RANDOM weights, built in code: shapes and rules, no videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.diffusion import DiscreteSchedule, ModelDefaults
from engine.diffusion.cogvideox import CogVideoX

SCHEDULER = {
    "_class_name": "CogVideoXDDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
# what tells the published models apart
KINDS: dict[str, dict[str, Any]] = {
    "2b": {"use_rotary_positional_embeddings": False},
    "5b": {"use_rotary_positional_embeddings": True},
    "5b learned": {"use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": True},
    "1.5": {
        "use_rotary_positional_embeddings": True,
        "patch_size_t": 2,
        "ofs_embed_dim": 8,
        "patch_bias": False,
    },
}


def byte_tokenizer() -> Any:
    """A T5 tokenizer whose pieces are single letters."""
    transformers = pytest.importorskip("transformers", reason="text needs transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = [(chr(code), -3.0) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0)


def tiny_parts(kind: str = "5b", seed: int = 0, from_image: bool = True, text: bool = True) -> dict[str, Any]:
    """{transformer, vae, text_encoder, tokenizer} as diffusers and transformers make them, random weights."""
    diffusers = pytest.importorskip("diffusers", reason="video models need diffusers")
    transformers = pytest.importorskip("transformers", reason="video models need transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=8 if from_image else 4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=16,
            num_layers=2,
            sample_width=4,
            sample_height=4,
            sample_frames=9,
            patch_size=2,
            temporal_compression_ratio=4,
            max_text_seq_length=12,
            **KINDS[kind],
        )
        vae = diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
            sample_height=32,
            sample_width=32,
            scaling_factor=0.7,
            invert_scale_latents=kind == "1.5",
        )
        encoder = transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=128, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4, dropout_rate=0.0
            )
        )
    return {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": encoder if text else None,
        "tokenizer": byte_tokenizer() if text else None,
    }


def tiny_video_model(
    kind: str = "5b", seed: int = 0, from_image: bool = True, text: bool = True, **options: Any
) -> CogVideoX:
    """The parts as a backbone: 9 frames of 32 pixels."""
    return CogVideoX(
        **tiny_parts(kind, seed, from_image, text),
        name="tiny video",
        fingerprint=f"random-{kind}-{seed}-{from_image}",
        defaults=ModelDefaults(steps=3, guidance_scale=6.0, image_guidance_scale=1.0),
        **{"noise_schedule": DiscreteSchedule.from_config(SCHEDULER), **options},
    )


def tiny_video_folder(
    folder: Path,
    kind: str = "5b",
    seed: int = 0,
    from_image: bool = True,
    text: bool = True,
    **scheduler: Any,
) -> Path:
    """The parts saved as a diffusers folder, as a pipeline's save_pretrained would lay it out."""
    for name, part in tiny_parts(kind, seed, from_image, text).items():
        if part is not None:
            part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**SCHEDULER, **scheduler}))
    pipeline = "CogVideoXImageToVideoPipeline" if from_image else "CogVideoXPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    return folder
