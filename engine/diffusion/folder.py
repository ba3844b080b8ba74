"""What loading a diffusers folder needs whatever the model: device, configs, weight files and one part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import InputError
from ..files.folders import visible
from ..files.jsonfile import read_json
from ..files.weights import check_folder

_Loaded = TypeVar("_Loaded")


def choose_device(device: torch.device | str) -> torch.device:
    """The device of that name; "auto" is CUDA where available. Raises InputError for CUDA without a GPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "DIF-012", "Device is cuda, but PyTorch does not find a CUDA GPU; choose cpu or auto."
        )
    return where


def read_config(path: Path) -> dict[str, Any]:
    """The content of a JSON file. Raises InputError where it cannot be read."""
    name = f"{path.parent.name}/{path.name}"
    try:
        return read_json(path, name)
    except InputError as error:
        raise InputError("DIF-028", f"{name} cannot be read as JSON; download it again.") from error


def weight_files(folder: Path) -> list[Path]:
    """The .safetensors files that from_pretrained will read.

    Raises InputError if there are none or only pickles, or if an index names anything else.
    """
    files = [
        file for file in visible(folder, "*.safetensors") if "non_ema" not in file.name and file.is_file()
    ]
    if not files:
        pickles = [file for file in visible(folder) if file.suffix in (".bin", ".pt", ".ckpt", ".msgpack")]
        if pickles:
            raise InputError(
                "DIF-023",
                f"{folder.parent.name}/{folder.name} has weights only as {pickles[0].name}, which can run code when it "
                "is opened; use the .safetensors of the same model.",
            )
        raise InputError(
            "DIF-024",
            f"{folder.parent.name}/{folder.name} does not contain weights; add the .safetensors of the same model.",
        )
    check_folder(folder)
    plain = [file for file in files if ".fp16." not in file.name]
    return plain or files


def explained(build: Callable[[], _Loaded], name: str, wanted: str) -> _Loaded:
    """Call `build`; an exception of a library becomes an InputError with its first line and what to use instead."""
    try:
        return build()
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError("DIF-029", f"{name} cannot be loaded ({lines[0][:200]}); {wanted}.") from error


def load_part(kind: Any, folder: Path, files: list[Path], precision: torch.dtype, wanted: str) -> Any:
    """Load one model of a folder, from .safetensors and without the network.

    Args:
        kind: Its class in diffusers or transformers.
        folder: The part's folder, such as `unet`.
        files: Its weights, from `weight_files`.
        precision: Precision of the weights.
        wanted: What to use instead, for errors.

    Raises:
        InputError: The library cannot load it, or the weights do not match the config.
    """
    name = f"{folder.parent.name}/{folder.name}"
    model, report = explained(
        lambda: kind.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=precision,
            variant="fp16" if all(".fp16." in file.name for file in files) else None,
            # mismatches are reported in the loading info and refused below with an InputError
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        ),
        name,
        wanted,
    )
    absent = sorted(report.get("missing_keys", ()))
    other = sorted(str(it[0] if isinstance(it, tuple) else it) for it in report.get("mismatched_keys", ()))
    if absent or other:
        raise InputError(
            "DIF-014",
            f"The weights in {name} do not match its config.json: {len(absent)} tensors are missing "
            f"and {len(other)} have another shape (such as {(absent + other)[0]}). Use config and weights of the "
            "same model.",
        )
    return model
