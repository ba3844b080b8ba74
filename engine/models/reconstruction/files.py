"""One .safetensors for a reconstruction model: its weights, those of the video model's camera branch, and its description.

Names: `ldrm.embed.*`, `ldrm.blocks.{i}.*`, `ldrm.deconv.{i}.*`, `ldrm.head_gs.*`, `ldrm.head_def.*`, and `backbone_cam.*` for
parameters that belong to the camera branch of a video backbone. The header's metadata holds the JSON of `LdrmConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...files.safetensors_reader import open_tensors
from ...files.weights import read_header
from ..described import description_of, write_described
from ..loading import load_weights, on_meta
from .config import LdrmConfig
from .ldrm import Ldrm

PREFIX, CAMERA_PREFIX = "ldrm.", "backbone_cam."


def save_ldrm(
    model: Ldrm,
    path: Path,
    camera_branch: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model.

    Args:
        model: The model.
        path: The .safetensors file.
        camera_branch: Parameters of a backbone's camera branch, by their names there.
        dtype: Precision in the file.
    """
    state = {PREFIX + name: value for name, value in model.state_dict().items()}
    state |= {CAMERA_PREFIX + name: value for name, value in (camera_branch or {}).items()}
    write_described(path, state, model.config.to_json(), dtype)


def read_config(path: Path) -> LdrmConfig:
    """The description in a file's header.

    Raises:
        InputError: The file is not a reconstruction model's.
    """
    described, source = description_of(path), f"{path.parent.name}/{path.name}"
    if described is None:
        raise InputError(
            "REC-009",
            f"{source} has no description of a reconstruction model in its header; use a file that was saved with one.",
        )
    return LdrmConfig.from_json(described, source)


def load_ldrm(path: Path, device: torch.device | str = "cpu") -> Ldrm:
    """Read a model; every name and shape is checked before a tensor is read.

    Args:
        path: The .safetensors file.
        device: Where it goes.

    Raises:
        InputError: The file is damaged, or its weights are not those that it describes.

    Example:
        model = load_ldrm(Path("assets/models/tiny-diff4splat/ldrm.safetensors"))
    """
    config = read_config(path)
    network = on_meta(lambda: Ldrm(config))
    return load_weights(network, path, "a reconstruction model", rename=_own_name, device=device)


def camera_names(path: Path) -> list[str]:
    """Names in a file of the parameters of the backbone's camera branch; none: empty."""
    return [name for name in read_header(path).shapes if name.startswith(CAMERA_PREFIX)]


def load_camera_branch(path: Path) -> dict[str, Tensor]:
    """The parameters of the backbone's camera branch that a file holds, by their names there; none: empty."""
    with open_tensors(path) as file:
        return {name.removeprefix(CAMERA_PREFIX): file.get_tensor(name) for name in camera_names(path)}


def _own_name(name: str) -> str | None:
    if name.startswith(CAMERA_PREFIX):
        return None
    # without the prefix it must stay unknown
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"?{name}"
