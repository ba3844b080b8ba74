"""Load a backbone from disk: a diffusers folder, a single .safetensors, or the bundled model.

Nothing is downloaded: the config files for single files are in `configs/`, and a missing part is an error that names it.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from ..backends import require
from ..errors import InputError
from ..files.folders import visible
from ..files.weights import fingerprint, read_header, refuse_pickle
from .backbone import ModelDefaults
from .folder import (
    choose_device,
    explained,
    load_part,
    read_config,
    weight_files,
)
from .known_edits import KnownEdits
from .noise_schedule import DiscreteSchedule
from .precision import check_precision, choose_precision
from .single_file import (
    CONFIGS,
    WANTED,
    check_input_channels,
    guess_prediction,
    identify,
    load_parts,
)
from .stable_diffusion import StableDiffusion
from .tokenizer import clip_tokenizer

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "models" / "tiny-instruct-pix2pix"
_PARTS = ("unet", "vae", "text_encoder")
_PIPELINES = {
    "StableDiffusionXL": "SDXL",
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux": "Flux",
    "CogVideoX": "CogVideoX, a video model",
}


def embedded() -> Path:
    """Folder of the bundled InstructPix2Pix model.

    Raises:
        InputError: The pack was installed without it.
    """
    if not (EMBEDDED / "unet" / "config.json").is_file():
        raise InputError(
            "DIF-008",
            f"The bundled model is missing from {EMBEDDED}; download the pack again, or {WANTED}.",
        )
    return EMBEDDED


def load(
    source: Path | str,
    device: torch.device | str = "cpu",
    dtype: str = "auto",
    runs_on: torch.device | None = None,
) -> StableDiffusion:
    """Load a diffusion model.

    Args:
        source: A diffusers folder, its model_index.json, or a .safetensors checkpoint.
        device: A torch device, or "auto" for CUDA where available.
        dtype: "fp32", "fp16", "bf16", or "auto": fp32 on a CPU; on CUDA fp16, or bf16 where the model upcasts its
            attention and the GPU computes it.
        runs_on: Device that the model will be moved to, which decides the precision; None: `device`.

    Returns:
        The model on `device`, frozen and in eval mode.

    Raises:
        InputError: `source` is not a complete SD 1.x, SD 2.x or InstructPix2Pix model.

    Example:
        backbone = load("models/instruct-pix2pix", device="auto")
        latents = backbone.encode(images)
    """
    require("diffusers")
    require("transformers")
    where = choose_device(device)
    check_precision(dtype)
    then = runs_on or where
    path = Path(os.path.realpath(Path(source).expanduser()))
    if path.name == "model_index.json":
        path = path.parent
    if path.is_dir():
        return _from_folder(path, where, dtype, then)
    if not path.is_file():
        raise InputError("DIF-010", f"No model found at {source}; {WANTED}.")
    refuse_pickle(path)
    if path.suffix.lower() != ".safetensors":
        raise InputError("DIF-011", f"{path.name} is not a .safetensors file; {WANTED}.")
    return _from_file(path, where, dtype, then)


def _from_file(path: Path, device: torch.device, dtype: str, runs_on: torch.device) -> StableDiffusion:
    kind = identify(read_header(path), path.name)
    precision = choose_precision(dtype, runs_on, overflows=kind.family == "sd2")
    parts = explained(lambda: load_parts(path, kind, precision), path.name, WANTED)
    noise_schedule = DiscreteSchedule.from_config(parts.pop("scheduler"))
    large = kind.family == "sd2" and noise_schedule.prediction == "v_prediction"
    recommended = _recommended(kind.in_channels == 8, 768 if large else 512)
    return StableDiffusion(
        **parts,
        noise_schedule=noise_schedule,
        name=path.stem,
        fingerprint=fingerprint([path]),
        defaults=recommended,
        device=device,
        dtype=precision,
    )


def _from_folder(folder: Path, device: torch.device, dtype: str, runs_on: torch.device) -> StableDiffusion:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    _refuse_other_pipelines(folder)
    missing = [part for part in _PARTS if not (folder / part / "config.json").is_file()]
    if missing:
        raise InputError(
            "DIF-013",
            f"{folder.name} lacks {', '.join(f'{part}/config.json' for part in missing)}; a diffusers folder "
            "needs unet, vae and text_encoder, each with its config.json and weights.",
        )
    unet, vae, text = (read_config(folder / part / "config.json") for part in _PARTS)
    _check_configs(unet, vae, text, folder.name)
    files = {part: weight_files(folder / part) for part in _PARTS}
    for found in files.values():
        for file in found:
            read_header(file)
    precision = choose_precision(dtype, runs_on, overflows=bool(unet.get("upcast_attention")))

    def part(kind: Any, name: str) -> Any:
        return load_part(kind, folder / name, files[name], precision, WANTED)

    tokenizer = (
        explained(
            lambda: CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True),
            f"{folder.name}/tokenizer",
            WANTED,
        )
        if (folder / "tokenizer").is_dir()
        else _shipped_tokenizer(text, folder.name)
    )
    tiny = vae.get("_class_name") == "AutoencoderTiny"
    models = {
        "unet": part(UNet2DConditionModel, "unet"),
        "vae": part(AutoencoderTiny if tiny else AutoencoderKL, "vae"),
        "text_encoder": part(CLIPTextModel, "text_encoder"),
    }
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    recommended = _recommended(
        int(unet["in_channels"]) == 2 * int(vae["latent_channels"]),
        int(unet.get("sample_size") or 64) * factor,
    )
    facts = _facts(folder)
    return StableDiffusion(
        **models,
        tokenizer=tokenizer,
        noise_schedule=_noising(folder, models["unet"], int(unet["cross_attention_dim"])),
        name=folder.name,
        fingerprint=fingerprint([file for found in files.values() for file in found]),
        defaults=_written(facts, recommended, folder.name),
        known_edits=KnownEdits.from_facts(facts, folder.name),
        device=device,
        dtype=precision,
    )


def _refuse_other_pipelines(folder: Path) -> None:
    index = read_config(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    pipeline = str(index.get("_class_name", ""))
    found = next((kind for start, kind in _PIPELINES.items() if pipeline.startswith(start)), None)
    if found is None and (folder / "text_encoder_2").is_dir() and (folder / "unet").is_dir():
        found = "SDXL"
    if found is None and (folder / "transformer").is_dir():
        found = f"a diffusion transformer ({pipeline or 'transformer/ instead of unet/'})"
    if found is not None:
        raise InputError("DIF-015", f"{folder.name} is {found}, which is not supported; {WANTED}.")
    if not any((folder / part).is_dir() for part in _PARTS):
        loose = [file.name for file in visible(folder, "*.safetensors")]
        hint = f"choose the file {loose[0]} in it if that is the model, or " if loose else ""
        raise InputError(
            "DIF-016",
            f"{folder.name} is not a diffusers folder (it lacks unet, vae and text_encoder); {hint}{WANTED}.",
        )


def _check_configs(unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any], name: str) -> None:
    """Raise InputError unless the configs of the three parts are supported and belong together."""
    # "text" adds the prompt's states to the timestep, so the caller need not pass anything more
    if unet.get("addition_embed_type") not in (None, "text") or unet.get("class_embed_type"):
        raise InputError("DIF-017", f"{name} has the UNet of SDXL or of an upscaler; {WANTED}.")
    if unet.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
        raise InputError("DIF-018", f"{name}/unet is a {unet['_class_name']}; {WANTED}.")
    if vae.get("_class_name", "AutoencoderKL") not in ("AutoencoderKL", "AutoencoderTiny"):
        raise InputError(
            "DIF-019", f"{name}/vae is a {vae['_class_name']}, but an AutoencoderKL is needed; {WANTED}."
        )
    try:
        latent, first, last = int(vae["latent_channels"]), int(unet["in_channels"]), int(unet["out_channels"])
        wide, states = int(unet["cross_attention_dim"]), int(text["hidden_size"])
        len(vae["block_out_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "DIF-020", f"A config.json in {name} has a missing or invalid value ({error}); {WANTED}."
        ) from error
    if latent != last:
        raise InputError(
            "DIF-021",
            f"{name} has a VAE with {latent} latent channels but a UNet with {last}; use the VAE that came with the "
            "UNet.",
        )
    check_input_channels(first, latent, name)
    if wide != states:
        raise InputError(
            "DIF-022",
            f"{name} has a text encoder of width {states} but a UNet that expects width {wide}; use the text encoder "
            "that came with the UNet.",
        )


def _shipped_tokenizer(text: dict[str, Any], name: str) -> Any:
    if int(text.get("vocab_size", 0)) != 49408:
        raise InputError(
            "DIF-025", f"{name} lacks tokenizer/; add the tokenizer that its text encoder was trained with."
        )
    return clip_tokenizer("!" if int(text["hidden_size"]) == 1024 else "<|endoftext|>")


def _noising(folder: Path, unet: Any, width: int) -> DiscreteSchedule:
    written = folder / "scheduler" / "scheduler_config.json"
    if written.is_file():
        return DiscreteSchedule.from_config(read_config(written))
    default = read_config(CONFIGS / "sd1" / "scheduler" / "scheduler_config.json")
    if width == 1024:
        last = dict(unet.named_parameters()).get("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias")
        default["prediction_type"] = guess_prediction(last)
    return DiscreteSchedule.from_config(default)


def _recommended(has_image_conditioning: bool, resolution: int) -> ModelDefaults:
    # 20 steps at 7.5 / 1.5: Instruct-4DGS, section 4 of the paper and its script
    return ModelDefaults(image_guidance_scale=1.5 if has_image_conditioning else 1.0, resolution=resolution)


def known_edits_of(source: Path | str) -> KnownEdits | None:
    """Read the closed list of edits of a model without loading the model.

    Args:
        source: The model's folder.

    Returns:
        The list; None if the model has none.

    Raises:
        InputError: Its gs4d.json is damaged.
    """
    folder = Path(source).expanduser()
    return KnownEdits.from_facts(_facts(folder), folder.name)


def _facts(folder: Path) -> dict[str, Any]:
    """The content of the gs4d.json in the model's folder; empty if the file does not exist."""
    path = folder / "gs4d.json"
    return read_config(path) if path.is_file() else {}


def _written(facts: dict[str, Any], default: ModelDefaults, name: str) -> ModelDefaults:
    """`default` with the values that gs4d.json recommends."""
    found = facts.get("recommended", {})
    if not isinstance(found, dict):
        raise InputError(
            "DIF-026",
            f"{name}/gs4d.json: 'recommended' is not a table of numbers; restore the file or delete it.",
        )
    known = {field.name: type(getattr(default, field.name)) for field in fields(ModelDefaults)}
    try:
        numbers = {key: known[key](value) for key, value in found.items() if key in known}
    except (TypeError, ValueError) as error:
        raise InputError(
            "DIF-027",
            f"{name}/gs4d.json: 'recommended' has a value that is not a number ({error}); restore the file or delete it.",
        ) from error
    return replace(default, **numbers)
