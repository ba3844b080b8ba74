"""One .safetensors for the small video model: its weights, and its description as JSON in the header."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ...errors import InputError
from ...files.atomic import write_atomically
from ...files.jsonfile import parse_json
from ...files.safetensors_writer import write_tensors
from ...files.weights import read_header, refuse_pickle
from ..loading import load_weights, on_meta
from .config import KIND, CameraVideoConfig
from .network import CameraVideo


def save_camera_video(model: CameraVideo, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model.

    Args:
        model: The model.
        path: The .safetensors file.
        dtype: Precision in the file.
    """
    state = {name: value.to(dtype) for name, value in model.state_dict().items()}
    with write_atomically(path) as partial:
        write_tensors(partial, state, {"format": KIND, "config": json.dumps(model.config.to_json())})


def read_config(path: Path) -> CameraVideoConfig:
    """The description in a file's header.

    Raises:
        InputError: The file is not a small video model's.
    """
    refuse_pickle(path)
    text = read_header(path).metadata.get("config")
    source = f"{path.parent.name}/{path.name}"
    try:
        described = None if text is None else parse_json(text)
    except ValueError:
        described = None
    if not isinstance(described, dict):
        raise InputError(
            "REC-011",
            f"{source} has no description of a small video model in its header; use a file that was saved with one.",
        )
    return CameraVideoConfig.from_json(described, source)


def load_camera_video(path: Path, device: torch.device | str = "cpu") -> CameraVideo:
    """Read a model; every name and shape is checked before a tensor is read.

    Args:
        path: The .safetensors file.
        device: Where it goes.

    Raises:
        InputError: The file is damaged, or its weights are not those that it describes.

    Example:
        model = load_camera_video(Path("assets/models/tiny-diff4splat/video.safetensors"))
    """
    config = read_config(path)
    return load_weights(on_meta(lambda: CameraVideo(config)), path, "a small video model", device=device)
