"""TRELLIS and DINOv2 with RANDOM weights, built in code and saved as folders: shapes and rules, no real objects."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.models import trellis

CHANNELS = 24
FLOW = trellis.StructureFlowShape(4, 4, 4, 48, CHANNELS, 1, 3)
STRUCTURE = trellis.StructureDecoderShape(1, 4, 1, 1, (16, 8, 8))
LATENT = trellis.LatentFlowShape(16, 8, 8, 48, CHANNELS, 1, 3, io_block_channels=(16,))
GAUSSIANS = trellis.GaussianDecoderShape(16, 48, 8, 2, 3, window_size=4)
CANONICAL = replace(GAUSSIANS, gaussians=trellis.GaussianFormat(8))
STEMS = ("ss_flow_img_dit", "ss_dec_conv3d", "slat_flow_img_dit", "slat_dec_gs")


def save_encoder(folder: Path, channels: int = CHANNELS, layers: int = 2) -> Path:
    """A folder of DINOv2 with four registers, for images of 28 pixels."""
    transformers = pytest.importorskip("transformers", reason="image tokens need transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = transformers.Dinov2WithRegistersConfig(
            hidden_size=channels,
            num_hidden_layers=layers,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=28,
            patch_size=14,
        )
        model = transformers.Dinov2WithRegistersModel(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return folder


def save_trellis(folder: Path, seed: int = 0, pipeline: dict[str, Any] | None = None) -> Path:
    """A folder like TRELLIS-image-large, whose structure decoder leaves about half of 16³ cells occupied."""
    place = folder / "ckpts"
    place.mkdir(parents=True)
    flow, latent = ({**asdict(shape), "pe_mode": "ape", "use_fp16": True} for shape in (FLOW, LATENT))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models: list[tuple[str, dict[str, Any], Any]] = [
            ("SparseStructureFlowModel", {**flow, "patch_size": 1}, trellis.StructureFlow(FLOW)),
            ("SparseStructureDecoder", asdict(STRUCTURE), trellis.StructureDecoder(STRUCTURE)),
            ("ElasticSLatFlowModel", {**latent, "patch_size": 2}, trellis.LatentFlow(LATENT)),
            ("ElasticSLatGaussianDecoder", decoder_args(), trellis.GaussianDecoder(GAUSSIANS)),
        ]
        for stem, (name, args, model) in zip(STEMS, models, strict=True):
            (place / f"{stem}.json").write_text(json.dumps({"name": name, "args": args}))
            # the output layers of both flows start at zero, which would ignore the image
            for parameter in [p for n, p in model.named_parameters() if "out_layer" in n or "adaLN" in n]:
                torch.nn.init.normal_(parameter, std=0.2)
            model.cast_torso(torch.float16)
            save_file(model.state_dict(), place / f"{stem}.safetensors")
    (folder / "pipeline.json").write_text(json.dumps(pipeline or {"name": "TrellisImageTo3DPipeline"}))
    return folder


def decoder_args() -> dict[str, Any]:
    """Constructor arguments of the Gaussian decoder as in the published .json."""
    args = {key: value for key, value in asdict(GAUSSIANS).items() if key != "gaussians"}
    lr = {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1}
    form = {"lr": lr, "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 32, "scaling_bias": 0.004}
    form |= {"2d_filter_kernel_size": 0.1, "3d_filter_kernel_size": 9e-4, "opacity_bias": 0.1}
    form |= {"scaling_activation": "softplus"}
    return {**args, "attn_mode": "swin", "use_fp16": True, "representation_config": form}


def save_canonical_decoder(path: Path, shape: trellis.GaussianDecoderShape = CANONICAL) -> Path:
    """GVFDiffusion's canonical VAE in its own names, with an encoder that is not needed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = trellis.GaussianDecoder(shape)
    names = {"blocks": "decoder", "input_layer": "from_latent", "out_layer": "out_layer"}
    state = {"module.encoder.0.weight": torch.ones(2), "module.MipGS_perturbation": torch.zeros(8, 3)}
    for name, tensor in model.state_dict().items():
        head, _, rest = name.partition(".")
        if head in names:
            state[f"module.{names[head]}.{rest}"] = tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path
