"""One .safetensors for the small video model: its weights, and its description as JSON in the header."""

from __future__ import annotations

from pathlib import Path

import torch

from ...errors import InputError
from ..described import description_of, write_described
from ..loading import load_weights, on_meta
from .config import CameraVideoConfig
from .network import CameraVideo


def save_camera_video(model: CameraVideo, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model.

    Args:
        model: The model.
        path: The .safetensors file.
        dtype: Precision in the file.
    """
    write_described(path, model.state_dict(), model.config.to_json(), dtype)


def read_config(path: Path) -> CameraVideoConfig:
    """The description in a file's header.

    Raises:
        InputError: The file is not a small video model's.
    """
    described, source = description_of(path), f"{path.parent.name}/{path.name}"
    if described is None:
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
