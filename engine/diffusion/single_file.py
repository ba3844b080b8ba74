"""Load SD 1.x, SD 2.x or InstructPix2Pix from one .safetensors with the key names of the authors' code.

Rombach et al. 2022 (latent-diffusion): `model.diffusion_model.*` is the UNet, `first_stage_model.*` the VAE,
`cond_stage_model.*` the text encoder, `model_ema.*` the averaged UNet. diffusers renames UNet and VAE. The text encoder
is renamed here, because it has two namings: CLIP's in transformers (1.x) and OpenCLIP's (2.x).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files.safetensors_header import Header
from ..files.safetensors_reader import open_tensors
from .tokenizer import clip_tokenizer

CONFIGS = Path(__file__).parent / "configs"
WANTED = "choose Stable Diffusion 1.x, 2.x or InstructPix2Pix, as a .safetensors file or a diffusers folder"

_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
_FIRST = _UNET + "input_blocks.0.0.weight"
_WIDTH = _UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_PROBE = _UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
# part of a tensor name → the kind of model it belongs to, most specific first
_FOREIGN = (
    ("conditioner.embedders.", "an SDXL checkpoint"),
    ("diffusion_model.label_emb.", "an SDXL checkpoint"),
    ("add_embedding.linear_1.", "the UNet of SDXL"),
    ("joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("double_blocks.", "a Flux checkpoint"),
    ("single_transformer_blocks.", "a Flux checkpoint"),
    ("control_model.", "a ControlNet"),
    ("controlnet_", "a ControlNet"),
    ("lora_", "a LoRA, which holds changes to a model, not a whole model"),
    (".lora", "a LoRA, which holds changes to a model, not a whole model"),
)


@dataclass(frozen=True)
class Kind:
    """The kind of a checkpoint, from its header.

    Args:
        family: Folder of CONFIGS: "sd1" or "sd2".
        in_channels: Input channels of the UNet: 4 text to image, 8 InstructPix2Pix.
        has_average: The file holds an averaged (EMA) UNet too.
        prediction: What the UNet predicts, if the metadata says it.
    """

    family: str
    in_channels: int
    has_average: bool
    prediction: str | None


def foreign(names: Mapping[str, Any] | list[str]) -> str | None:
    """The kind of unsupported model that these tensor names belong to; None if there is none."""
    return next((kind for part, kind in _FOREIGN if any(part in name for name in names)), None)


def identify(header: Header, name: str) -> Kind:
    """Identify a checkpoint from the names and shapes of its tensors.

    Args:
        header: The file's header.
        name: The file's name, for messages.

    Raises:
        InputError: The checkpoint is incomplete or not supported.
    """
    shapes = header.shapes
    found = foreign(shapes)
    if found is not None:
        raise InputError("DIF-034", f"{name} is {found}; {WANTED}.")
    _check_parts(shapes, name)
    if any(len(shapes.get(key, ())) < 2 for key in (_FIRST, _WIDTH)):
        raise InputError("DIF-036", f"{name} has a UNet that is not supported; {WANTED}.")
    width, channels = shapes[_WIDTH][1], shapes[_FIRST][1]
    if width not in (768, 1024):
        raise InputError(
            "DIF-037", f"{name} has text states of width {width} (SD 1.x has 768, SD 2.x 1024); {WANTED}."
        )
    check_input_channels(channels, 4, name)
    written = header.metadata.get("modelspec.prediction_type", "").lower()
    prediction = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
    averaged = any(key.startswith("model_ema.diffusion_model") for key in shapes)
    return Kind("sd1" if width == 768 else "sd2", channels, averaged, prediction.get(written))


def _check_parts(shapes: Mapping[str, Any], name: str) -> None:
    """InputError unless UNet, VAE and text encoder are there, with the parts that are."""
    parts = {
        what: any(key.startswith(prefix) for key in shapes)
        for what, prefix in (("UNet", _UNET), ("VAE", _VAE), ("text encoder", _TEXT))
    }
    if all(parts.values()):
        return
    held = [what for what, there in parts.items() if there]
    if any(key.startswith(("down_blocks.", "unet.down_blocks.")) for key in shapes):
        held = ["UNet in diffusers' names"]
    elif any(key.startswith(("encoder.down", "decoder.up")) for key in shapes):
        held = ["VAE"]
    missing = [what for what, there in parts.items() if not there]
    raise InputError(
        "DIF-035",
        f"{name} lacks a {' and a '.join(missing)}"
        + (f" (it holds only a {' and a '.join(held)})" if held else "")
        + "; choose the whole checkpoint, or a diffusers folder with all parts.",
    )


def check_input_channels(found: int, latent_channels: int, name: str) -> None:
    """InputError unless the UNet takes a latent, or a latent and a conditioning image."""
    if found in (latent_channels, 2 * latent_channels):
        return
    kinds = {9: "an inpainting model", 5: "a depth-conditioned model", 7: "an upscaler"}
    what = kinds[found] if found in kinds and latent_channels == 4 else "not a supported model"
    raise InputError(
        "DIF-038",
        f"{name} is {what} (its UNet takes {found} channels); use one that takes {latent_channels} (text to image) or "
        f"{2 * latent_channels} (InstructPix2Pix).",
    )


def load_parts(path: Path, kind: Kind, dtype: torch.dtype) -> dict[str, Any]:
    """Load {unet, vae, text_encoder, tokenizer, scheduler} from the file; reads only the tensors that are used."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    config = str(CONFIGS / kind.family)
    with open_tensors(path) as file:
        names = set(file.keys())

        def read(prefix: str, rename: Callable[[str], str] = str) -> dict[str, Tensor]:
            return {key: file.get_tensor(rename(key)) for key in sorted(names) if key.startswith(prefix)}

        def averaged(key: str) -> str:
            average = "model_ema." + key.removeprefix("model.").replace(".", "")
            return average if average in names else key

        def convert(model: Any, part: str, weights: dict[str, Tensor], **changes: Any) -> Any:
            try:
                # from_single_file takes a state dict too
                return model.from_single_file(
                    weights,
                    config=config,
                    subfolder=part.lower(),
                    local_files_only=True,
                    torch_dtype=dtype,
                    **changes,
                )
            except NotImplementedError as error:
                # torch raises this for a weight without a tensor
                raise InputError(
                    "DIF-039",
                    f"The {part} in {path.name} lacks tensors; the file is incomplete, download it again.",
                ) from error

        weights = read(_UNET, averaged if kind.has_average else str)
        bias = weights.get(_PROBE)
        unet = convert(UNet2DConditionModel, "UNet", weights, in_channels=kind.in_channels)
        del weights
        vae = convert(AutoencoderKL, "VAE", read(_VAE))
        text_encoder = _text_encoder(
            read(_TEXT), Path(config) / "text_encoder" / "config.json", dtype, path.name
        )
    scheduler = json.loads((Path(config) / "scheduler" / "scheduler_config.json").read_text())
    prediction = kind.prediction or ("epsilon" if kind.family == "sd1" else guess_prediction(bias))
    return {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": clip_tokenizer("!" if kind.family == "sd2" else "<|endoftext|>"),
        "scheduler": {**scheduler, "prediction_type": prediction},
    }


def guess_prediction(bias: Tensor | None) -> str:
    """Guess what an SD 2.x UNet predicts, which the tensor names do not show.

    2.0 and 2.1 at 768 pixels were trained on velocity, the base models at 512 pixels on noise. The last block's norm
    bias has a larger spread in the former; ComfyUI uses the same test.
    """
    wide = bias is not None and float(bias.float().std(correction=0)) > 0.09
    return "v_prediction" if wide else "epsilon"


def _text_encoder(weights: dict[str, Tensor], config: Path, dtype: torch.dtype, name: str) -> Any:
    """Build transformers' CLIPTextModel from either naming; `name` is the file's."""
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModel

    own = _from_open_clip(weights) if any(".resblocks." in key for key in weights) else _from_clip(weights)
    # weights come from the file, so random initialization is skipped
    with init_empty_weights():
        model = CLIPTextModel(CLIPTextConfig(**json.loads(config.read_text())))
    wanted = list(model.state_dict())
    # transformers 5 dropped this prefix
    if not any(key.startswith("text_model.") for key in wanted):
        own = {key.removeprefix("text_model."): tensor for key, tensor in own.items()}
    absent = [key for key in wanted if key not in own]
    if absent:
        raise InputError(
            "DIF-040",
            f"The text encoder in {name} lacks {len(absent)} tensors (such as {absent[0]}); the file is incomplete, "
            "download it again.",
        )
    model.load_state_dict({key: own[key].to(dtype) for key in wanted}, assign=True)
    return model


def _from_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`cond_stage_model.transformer.[text_model.]*` → `text_model.*`."""
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = key.removeprefix(_TEXT).removeprefix("transformer.").removeprefix("text_model.")
        found["text_model." + name] = tensor
    return found


_OPEN_CLIP = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def _from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`cond_stage_model.model.transformer.resblocks.*` → `text_model.encoder.layers.*`.

    One tensor of queries, keys and values becomes three. SD 2.x uses the penultimate layer: the config's layer count
    leaves the last one out.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = key.removeprefix(_TEXT).removeprefix("model.")
        if name in _OPEN_CLIP:
            found["text_model." + _OPEN_CLIP[name]] = tensor
            continue
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
        if block is None:
            continue
        layer = f"text_model.encoder.layers.{block[1]}."
        if block[2] == "attn.in_proj":
            for which, share in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{layer}self_attn.{which}_proj.{block[3]}"] = share
        elif block[2] in _OPEN_CLIP_BLOCK:
            found[f"{layer}{_OPEN_CLIP_BLOCK[block[2]]}.{block[3]}"] = tensor
    return found
