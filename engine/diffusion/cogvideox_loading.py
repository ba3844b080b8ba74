"""Load CogVideoX from a diffusers folder: 2B, 5B and 1.5, from text or from an image.

Nothing is downloaded. Configs, names and shapes are compared before a weight is read, because the weights are 4 to 20 GB.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..backends import require
from ..errors import InputError
from ..files.weights import fingerprint, read_header, refuse_pickle
from ..models.loading import check_shapes, on_meta
from ..models.reconstruction import LatentFormat
from ..models.transformers_folder import class_of
from .backbone import ModelDefaults
from .cogvideox import CogVideoX
from .folder import (
    choose_device,
    explained,
    load_part,
    read_config,
    weight_files,
)
from .noise_schedule import DiscreteSchedule
from .precision import check_precision, choose_precision
from .sampling import straight_alphas

log = logging.getLogger(__name__)

WANTED = "choose a diffusers folder of CogVideoX (2B, 5B or 1.5; from text or from an image)"
_TRANSFORMER, _AUTOENCODER = "CogVideoXTransformer3DModel", "AutoencoderKLCogVideoX"
# of 1.5, whose config has the positions' size instead
_LARGEST = 1360
# where the folder has no scheduler; the SNR shift is 1 in 5B and 3 in 2B
_SCHEDULER = {
    "_class_name": "CogVideoXDDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def load_cogvideox(
    source: Path | str,
    device: torch.device | str = "cpu",
    dtype: str = "auto",
    camera: Path | str | None = None,
    in_tiles: bool = True,
    runs_on: torch.device | None = None,
) -> CogVideoX:
    """Load a CogVideoX model.

    Without `text_encoder`, text is left out with a warning: text states are zeros, and prompts are refused.

    Args:
        source: A diffusers folder, or its model_index.json.
        device: A torch device, or "auto" for CUDA where available.
        dtype: "fp32", "fp16", "bf16", or "auto": bf16 where the device computes it, else fp16 on CUDA and fp32 on a CPU.
        camera: Weights of a camera condition, from `CogVideoX.save_camera`; None: no camera path.
        in_tiles: Encode and decode large frames in tiles.
        runs_on: Device that the model will be moved to, which decides the precision; None: `device`.

    Returns:
        The model on `device`, frozen and in eval mode.

    Raises:
        InputError: `source` is not a complete CogVideoX model.

    Example:
        model = load_cogvideox("models/CogVideoX-5b-I2V", device="auto")
        condition = model.first_frame(image, frames=49)
    """
    require("diffusers")
    where = choose_device(device)
    check_precision(dtype)
    model = _from_folder(
        _folder(source), where, choose_precision(dtype, runs_on or where, prefers_bf16=True), in_tiles
    )
    if camera is not None:
        model.load_camera(camera)
    return model


def described_latents(source: Path | str) -> LatentFormat:
    """The latents of a CogVideoX folder, from its configs alone.

    Raises:
        InputError: `source` is not a CogVideoX folder.
    """
    folder = _folder(source)
    _refuse_other_pipelines(folder)
    transformer, vae = (read_config(folder / part / "config.json") for part in ("transformer", "vae"))
    _check_configs(transformer, vae, folder.name)
    space = 2 ** (len(vae["block_out_channels"]) - 1)
    return LatentFormat(int(vae["latent_channels"]), int(vae["temporal_compression_ratio"]), space)


def _folder(source: Path | str) -> Path:
    folder = Path(os.path.realpath(Path(source).expanduser()))
    if folder.name == "model_index.json":
        folder = folder.parent
    if not folder.is_dir():
        if not folder.is_file():
            raise InputError("DIF-081", f"No video model found at {source}; {WANTED}.")
        refuse_pickle(folder)
        raise InputError("DIF-082", f"{folder.name} is a single file; {WANTED}.")
    return folder


def _from_folder(folder: Path, device: torch.device, precision: torch.dtype, in_tiles: bool) -> CogVideoX:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    _refuse_other_pipelines(folder)
    transformer, vae = (read_config(folder / part / "config.json") for part in ("transformer", "vae"))
    _check_configs(transformer, vae, folder.name)
    files = {part: weight_files(folder / part) for part in ("transformer", "vae")}
    kinds: dict[str, Any] = {"transformer": CogVideoXTransformer3DModel, "vae": AutoencoderKLCogVideoX}
    configs = {"transformer": transformer, "vae": vae}
    for part, kind in kinds.items():
        shapes: dict[str, tuple[int, ...]] = {}
        for file in files[part]:
            shapes |= read_header(file).shapes
        name = f"{folder.name}/{part}"
        check_shapes(
            _empty(kind, configs[part], name), shapes, name, f"the {part} that its config.json describes"
        )
    encoder, tokenizer, text_files = _text(folder, int(transformer["text_embed_dim"]), precision)
    models = {
        part: load_part(kind, folder / part, files[part], precision, WANTED) for part, kind in kinds.items()
    }
    schedule, shift = _schedule(folder, bool(transformer.get("use_rotary_positional_embeddings")))
    return CogVideoX(
        **models,
        text_encoder=encoder,
        tokenizer=tokenizer,
        noise_schedule=schedule,
        name=folder.name,
        fingerprint=fingerprint([*files["transformer"], *files["vae"], *text_files]),
        flow_shift=shift,
        defaults=ModelDefaults(
            steps=50,
            guidance_scale=6.0,
            image_guidance_scale=1.0,
            resolution=min(
                int(transformer.get("sample_width", 90)) * 2 ** (len(vae["block_out_channels"]) - 1), _LARGEST
            ),
        ),
        device=device,
        dtype=precision,
        in_tiles=in_tiles,
    )


def _empty(kind: Any, config: dict[str, Any], name: str) -> nn.Module:
    """The network of a config, on the meta device."""

    def build() -> nn.Module:
        return on_meta(lambda: kind.from_config(config))

    return explained(build, f"{name}/config.json", WANTED)


def _refuse_other_pipelines(folder: Path) -> None:
    index = read_config(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    pipeline = str(index.get("_class_name", "CogVideoX"))
    if not pipeline.startswith("CogVideoX"):
        raise InputError("DIF-083", f"{folder.name} is a {pipeline}, not CogVideoX; {WANTED}.")
    missing = [part for part in ("transformer", "vae") if not (folder / part / "config.json").is_file()]
    if missing:
        raise InputError(
            "DIF-084",
            f"{folder.name} lacks {' and '.join(f'{part}/config.json' for part in missing)}; {WANTED}.",
        )


def _check_configs(transformer: dict[str, Any], vae: dict[str, Any], name: str) -> None:
    """Raise InputError unless the configs are of CogVideoX and belong together."""
    if transformer.get("_class_name", _TRANSFORMER) != _TRANSFORMER:
        raise InputError("DIF-085", f"{name}/transformer is a {transformer['_class_name']}; {WANTED}.")
    if vae.get("_class_name", _AUTOENCODER) != _AUTOENCODER:
        raise InputError(
            "DIF-086",
            f"{name}/vae is a {vae['_class_name']}, whose latents CogVideoX does not read; use the vae that came with "
            "the transformer.",
        )
    try:
        latent, taken = int(vae["latent_channels"]), int(transformer["in_channels"])
        made, _ = int(transformer["out_channels"]), int(transformer["text_embed_dim"])
        factors = int(vae["temporal_compression_ratio"]), int(transformer["temporal_compression_ratio"])
        len(vae["block_out_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "DIF-087", f"A config.json in {name} has a missing or invalid value ({error}); download it again."
        ) from error
    if latent != made or factors[0] != factors[1]:
        raise InputError(
            "DIF-088",
            f"{name} has a vae with {latent} latent channels and {factors[0]} frames per latent, but a transformer for "
            f"{made} and {factors[1]}; use the vae that came with the transformer.",
        )
    if taken not in (made, 2 * made):
        raise InputError(
            "DIF-089",
            f"{name} has a transformer that takes {taken} channels, such as a control or inpainting model; use one that "
            f"takes {made} (from text) or {2 * made} (from an image).",
        )


def _text(folder: Path, width: int, precision: torch.dtype) -> tuple[Any, Any, list[Path]]:
    """Text encoder, tokenizer and the encoder's files; none where the folder has no text encoder."""
    place = folder / "text_encoder"
    if not place.is_dir():
        log.warning(
            "%s has no text_encoder, so text is left out: the video follows the image and the camera path only.",
            folder.name,
        )
        return None, None, []
    written, tokenizer = place / "config.json", folder / "tokenizer"
    missing = [path for path in (written, tokenizer) if not path.exists()]
    if missing:
        raise InputError(
            "DIF-090",
            f"{folder.name} has a text_encoder but lacks {missing[0].relative_to(folder).as_posix()}. Add it, or remove "
            "text_encoder to leave text out.",
        )
    config = read_config(written)
    if config.get("model_type") != "t5" or config.get("d_model") != width:
        raise InputError(
            "DIF-091",
            f"{folder.name} has a text encoder of type {config.get('model_type')} and width {config.get('d_model')}, but "
            f"its transformer expects T5 of width {width}; use the text encoder that came with it.",
        )
    files = weight_files(place)
    for file in files:
        read_header(file)
    if not (tokenizer / "tokenizer.json").is_file():
        require("sentencepiece")
    words = explained(
        lambda: class_of("T5TokenizerFast").from_pretrained(str(tokenizer), local_files_only=True),
        f"{folder.name}/tokenizer",
        WANTED,
    )
    return load_part(class_of("T5EncoderModel"), place, files, precision, WANTED), words, files


def _schedule(folder: Path, has_rotary_positions: bool) -> tuple[DiscreteSchedule, float | None]:
    """The schedule; for weights that predict velocities (their scheduler is a FlowMatch one) also the time shift."""
    path = folder / "scheduler" / "scheduler_config.json"
    default = {**_SCHEDULER, "snr_shift_scale": 1.0 if has_rotary_positions else 3.0}
    config = read_config(path) if path.is_file() else default
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        total = int(config.get("num_train_timesteps", 1000))
        return DiscreteSchedule(straight_alphas(total), "v_prediction", "trailing"), float(
            config.get("shift", 1.0)
        )
    schedule = DiscreteSchedule.from_config(config)
    if schedule.prediction != "v_prediction":
        raise InputError(
            "DIF-092",
            f"{folder.name}/scheduler says that the model predicts '{schedule.prediction}', but CogVideoX predicts v; "
            "use the scheduler that came with the model.",
        )
    return schedule, None
