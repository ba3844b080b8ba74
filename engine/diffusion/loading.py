"""A backbone from what lies on the disk: a diffusers folder, a single .safetensors, or the model that ships.

Nothing is fetched: config files for single files ship in `configs/`, and a part that is missing is an error that says
which one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..backends import require
from ..errors import InputError
from ..files.jsonfile import read_json
from .backbone import ModelDefaults
from .known_edits import KnownEdits
from .noise_schedule import NoiseSchedule
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
from .weights import fingerprint, read_header, refuse_pickle

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "models" / "tiny-instruct-pix2pix"
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_Loaded = TypeVar("_Loaded")
_PARTS = ("unet", "vae", "text_encoder")
_PIPELINES = {"StableDiffusionXL": "SDXL", "StableDiffusion3": "Stable Diffusion 3", "Flux": "Flux"}


def embedded() -> Path:
    """The InstructPix2Pix of our own that ships with the pack. Raises InputError where it was left out."""
    if not (EMBEDDED / "unet" / "config.json").is_file():
        raise InputError(
            "DIF-008",
            f"The model that ships with the pack is not in {EMBEDDED}: download the pack again, or {WANTED}.",
        )
    return EMBEDDED


def load(source: Path | str, device: torch.device | str = "cpu", dtype: str = "auto") -> StableDiffusion:
    """The model in `source` (a diffusers folder, its model_index.json, or a .safetensors), ready on `device`.

    `device` may be "auto". `dtype` is "auto" (fp32 on a CPU; on CUDA fp16, or bf16 where the model asks for attention
    in full precision), "fp32", "fp16" or "bf16". Raises InputError for anything that is no whole SD 1.x, 2.x or
    InstructPix2Pix, always with what was found and what is needed.
    """
    require("diffusers")
    require("transformers")
    where = _device(device)
    if dtype != "auto" and dtype not in PRECISIONS:
        raise InputError("DIF-009", f"Precision is '{dtype}': choose auto, {', '.join(PRECISIONS)}.")
    path = Path(source).expanduser().resolve()
    if path.name == "model_index.json":
        path = path.parent
    if path.is_dir():
        return _from_folder(path, where, dtype)
    if not path.is_file():
        raise InputError("DIF-010", f"There is no model at {source}: {WANTED}.")
    refuse_pickle(path)
    if path.suffix.lower() != ".safetensors":
        raise InputError("DIF-011", f"{path.name} is no .safetensors file: {WANTED}.")
    return _from_file(path, where, dtype)


def _device(device: torch.device | str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("DIF-012", "Device is cuda, and this torch finds no CUDA card: choose cpu or auto.")
    return where


def _precision(dtype: str, device: torch.device, upcasts: bool) -> torch.dtype:
    if dtype != "auto":
        return PRECISIONS[dtype]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if upcasts and torch.cuda.is_bf16_supported() else torch.float16


def _from_file(path: Path, device: torch.device, dtype: str) -> StableDiffusion:
    kind = identify(read_header(path), path.name)
    precision = _precision(dtype, device, upcasts=kind.family == "sd2")
    parts = _explained(lambda: load_parts(path, kind, precision), path.name)
    noise_schedule = NoiseSchedule.from_config(parts.pop("scheduler"))
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


def _from_folder(folder: Path, device: torch.device, dtype: str) -> StableDiffusion:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    _refuse_other_pipelines(folder)
    missing = [part for part in _PARTS if not (folder / part / "config.json").is_file()]
    if missing:
        raise InputError(
            "DIF-013",
            f"{folder.name} has no {', no '.join(f'{part}/config.json' for part in missing)}: a diffusers folder "
            "needs unet, vae and text_encoder, each with its config.json and weights.",
        )
    unet, vae, text = (_json(folder / part / "config.json") for part in _PARTS)
    _check_configs(unet, vae, text, folder.name)
    files = {part: _weights(folder / part) for part in _PARTS}
    for found in files.values():
        for file in found:
            read_header(file)
    precision = _precision(dtype, device, bool(unet.get("upcast_attention")))

    def part(cls: Any, name: str) -> Any:
        model, report = _explained(
            lambda: cls.from_pretrained(
                str(folder / name),
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=precision,
                variant=_variant(files[name]),
                ignore_mismatched_sizes=True,  # they are reported, and refused below in our own words
                output_loading_info=True,
            ),
            f"{folder.name}/{name}",
        )
        absent = sorted(report.get("missing_keys", ()))
        other = sorted(
            str(it[0] if isinstance(it, tuple) else it) for it in report.get("mismatched_keys", ())
        )
        if absent or other:
            raise InputError(
                "DIF-014",
                f"The weights in {folder.name}/{name} lack {len(absent)} of the tensors that its config.json asks for "
                f"and have {len(other)} of another size ({(absent + other)[0]}): take config and weights from the "
                "same model.",
            )
        return model

    tokenizer = (
        _explained(
            lambda: CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True),
            f"{folder.name}/tokenizer",
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
        defaults=_written(facts, recommended),
        known_edits=KnownEdits.from_facts(facts, folder.name),
        device=device,
        dtype=precision,
    )


def _refuse_other_pipelines(folder: Path) -> None:
    index = _json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    pipeline = str(index.get("_class_name", ""))
    found = next((kind for start, kind in _PIPELINES.items() if pipeline.startswith(start)), None)
    if found is None and (folder / "text_encoder_2").is_dir() and (folder / "unet").is_dir():
        found = "SDXL"
    if found is None and (folder / "transformer").is_dir():
        found = f"a diffusion transformer ({pipeline or 'it has transformer/ and no unet/'})"
    if found is not None:
        raise InputError("DIF-015", f"{folder.name} is {found}: {WANTED}.")
    if not any((folder / part).is_dir() for part in _PARTS):
        loose = sorted(file.name for file in folder.glob("*.safetensors"))
        hint = f"; choose the file {loose[0]} in it, if that is the model" if loose else ""
        raise InputError(
            "DIF-016", f"{folder.name} is no diffusers folder (no unet, vae or text_encoder){hint}: {WANTED}."
        )


def _check_configs(unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any], name: str) -> None:
    """Whether the three parts belong together, from their configs alone."""
    # "text" adds the prompt's own states to the timestep: nothing more is asked of the caller
    if unet.get("addition_embed_type") not in (None, "text") or unet.get("class_embed_type"):
        raise InputError("DIF-017", f"{name} has the UNet of SDXL or of an upscaler: {WANTED}.")
    if unet.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
        raise InputError("DIF-018", f"{name}/unet is a {unet['_class_name']}: {WANTED}.")
    if vae.get("_class_name", "AutoencoderKL") not in ("AutoencoderKL", "AutoencoderTiny"):
        raise InputError(
            "DIF-019", f"{name}/vae is a {vae['_class_name']}: AutoencoderKL is needed; {WANTED}."
        )
    try:
        latent, first, last = int(vae["latent_channels"]), int(unet["in_channels"]), int(unet["out_channels"])
        wide, states = int(unet["cross_attention_dim"]), int(text["hidden_size"])
        len(vae["block_out_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "DIF-020", f"A config.json in {name} lacks or misstates {error}: {WANTED}."
        ) from error
    if latent != last:
        raise InputError(
            "DIF-021",
            f"{name} has a VAE of {latent} latent channels and a UNet of {last}: they are of different models; put in "
            "the VAE that came with the UNet.",
        )
    check_input_channels(first, latent, name)
    if wide != states:
        raise InputError(
            "DIF-022",
            f"{name} has a text encoder of width {states} and a UNet that reads width {wide}: put in the text "
            "encoder that came with the UNet.",
        )


def _weights(folder: Path) -> list[Path]:
    """The .safetensors that from_pretrained will read. Raises InputError where there are none, or only pickles."""
    files = sorted(
        file for file in folder.glob("*.safetensors") if "non_ema" not in file.name and file.is_file()
    )
    if not files:
        pickles = sorted(
            file for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".ckpt", ".msgpack")
        )
        if pickles:
            raise InputError(
                "DIF-023",
                f"{folder.parent.name}/{folder.name} holds its weights only as {pickles[0].name}, which can run code "
                "when it is opened: take the .safetensors of the same model.",
            )
        raise InputError(
            "DIF-024",
            f"{folder.parent.name}/{folder.name} holds no weights: put in the .safetensors that its model came with.",
        )
    plain = [file for file in files if ".fp16." not in file.name]
    return plain or files


def _variant(files: list[Path]) -> str | None:
    return "fp16" if all(".fp16." in file.name for file in files) else None


def _shipped_tokenizer(text: dict[str, Any], name: str) -> Any:
    if int(text.get("vocab_size", 0)) != 49408:
        raise InputError(
            "DIF-025", f"{name} has no tokenizer/: put in the one that its text encoder was trained with."
        )
    return clip_tokenizer("!" if int(text["hidden_size"]) == 1024 else "<|endoftext|>")


def _noising(folder: Path, unet: Any, width: int) -> NoiseSchedule:
    written = folder / "scheduler" / "scheduler_config.json"
    if written.is_file():
        return NoiseSchedule.from_config(_json(written))
    default = _json(CONFIGS / "sd1" / "scheduler" / "scheduler_config.json")
    if width == 1024:
        last = dict(unet.named_parameters()).get("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias")
        default["prediction_type"] = guess_prediction(last)
    return NoiseSchedule.from_config(default)


def _recommended(has_image_conditioning: bool, resolution: int) -> ModelDefaults:
    # 20 steps at 7.5 / 1.5: Instruct-4DGS, section 4 of the paper and its script
    return ModelDefaults(image_guidance_scale=1.5 if has_image_conditioning else 1.0, resolution=resolution)


def known_edits_of(source: Path | str) -> KnownEdits | None:
    """The closed list of edits of the model in a folder, without loading it; None where it has none."""
    folder = Path(source).expanduser()
    return KnownEdits.from_facts(_facts(folder), folder.name)


def _facts(folder: Path) -> dict[str, Any]:
    """The content of the gs4d.json beside the model; empty where there is none."""
    path = folder / "gs4d.json"
    return _json(path) if path.is_file() else {}


def _written(facts: dict[str, Any], default: ModelDefaults) -> ModelDefaults:
    """`default` with what gs4d.json recommends in its place."""
    found = facts.get("recommended", {})
    if not isinstance(found, dict):
        raise InputError("DIF-026", "gs4d.json: 'recommended' is no table of numbers.")
    known = {field.name: type(getattr(default, field.name)) for field in fields(ModelDefaults)}
    try:
        numbers = {key: known[key](value) for key, value in found.items() if key in known}
    except (TypeError, ValueError) as error:
        raise InputError(
            "DIF-027", f"gs4d.json: 'recommended' holds something that is no number ({error})."
        ) from error
    return replace(default, **numbers)


def _json(path: Path) -> dict[str, Any]:
    name = f"{path.parent.name}/{path.name}"
    try:
        return read_json(path, name)
    except InputError as error:
        raise InputError("DIF-028", f"{name} cannot be read as JSON: download it again.") from error


def _explained(build: Callable[[], _Loaded], name: str) -> _Loaded:
    """What `build` gives; a library's own complaint becomes one sentence."""
    try:
        return build()
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError("DIF-029", f"{name} cannot be loaded ({lines[0][:200]}): {WANTED}.") from error
