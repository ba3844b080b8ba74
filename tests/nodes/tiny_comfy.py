"""A Stable Diffusion of a few hundred thousand RANDOM weights as ComfyUI holds it: MODEL, CLIP and VAE.

Imports ComfyUI, so it runs in its interpreter only. Built from comfy's own classes, as its checkpoint loader builds
them, with widths that comfy's fixed GroupNorm (32 groups) allows.
"""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch

TEXT_WIDTH, HEADS = 32, 4
UNET = {
    "image_size": 32, "model_channels": 32, "out_channels": 4, "channel_mult": [1, 2], "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1], "transformer_depth_middle": 1,
    "context_dim": TEXT_WIDTH, "num_heads": HEADS, "use_spatial_transformer": True, "legacy": False,
    "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
    "use_checkpoint": False, "dtype": torch.float32,
}  # fmt: skip
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
    "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
TEXT = {
    "hidden_size": TEXT_WIDTH, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu",
}  # fmt: skip


def shake(module: torch.nn.Module, seed: int) -> None:
    """Random weights everywhere: comfy's layers are empty memory until a checkpoint is read."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                drawn *= parameter[0].numel() ** -0.5
            else:
                drawn = drawn * 0.1 + (1.0 if name.endswith("weight") else 0.0)
            parameter.copy_(drawn)


def tiny_model(seed: int = 0, has_image_conditioning: bool = True, v_prediction: bool = False) -> Any:
    """A ModelPatcher."""
    kind = (
        comfy.supported_models.SD15_instructpix2pix if has_image_conditioning else comfy.supported_models.SD15
    )
    config = kind({**UNET, "in_channels": 8 if has_image_conditioning else 4})
    config.unet_config["num_heads"] = HEADS  # SD15's own setting is 8
    types = comfy.model_base.ModelType
    base = comfy.model_base.SD15_instructpix2pix if has_image_conditioning else comfy.model_base.BaseModel
    model = base(config, types.V_PREDICTION if v_prediction else types.EPS, device="cpu")
    shake(model.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def tiny_vae(seed: int = 1, latent_channels: int = 4) -> Any:
    config = {"params": {"ddconfig": {**VAE, "z_channels": latent_channels}, "embed_dim": latent_channels}}
    logging.disable(logging.WARNING)  # which would name every weight that no file gave
    try:
        vae = comfy.sd.VAE(sd={}, config=config, dtype=torch.float32)
    finally:
        logging.disable(logging.NOTSET)
    shake(vae.first_stage_model, seed)
    vae.latent_channels = latent_channels
    return vae


def tiny_clip(seed: int = 2, width: int = TEXT_WIDTH) -> Any:
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    options = {"clip_l_model_config": {**TEXT, "hidden_size": width}, "dtype": torch.float32}
    clip = comfy.sd.CLIP(target, model_options=options)
    shake(clip.cond_stage_model, seed)
    return clip


def tiny_checkpoint(seed: int = 0, **options: Any) -> tuple[Any, Any, Any]:
    """MODEL, CLIP, VAE, made in inference mode as by a loader node."""
    with torch.inference_mode():
        return tiny_model(seed, **options), tiny_clip(seed + 2), tiny_vae(seed + 1)
