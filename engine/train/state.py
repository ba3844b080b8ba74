"""Training state on disk: one safetensors file, written atomically, that resumes on the CPU with the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.jsonfile import parse_json
from ..files.safetensors_header import read_header
from ..files.safetensors_reader import read_tensors
from ..files.safetensors_writer import write_tensors
from .identity import fingerprint_of, identity, input_identity, key_of
from .ranks import current

__all__ = [
    "Checkpointed",
    "adam_memory",
    "fingerprint_of",
    "identity",
    "input_identity",
    "joined",
    "key_of",
    "load_state",
    "part",
    "save_state",
]

FORMAT = "gs4d-training"
VERSION = 1


class Resumable(Protocol):
    """A run whose whole state can be saved between two steps."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers: everything needed to continue, on the CPU with the same bits."""
        ...

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """The inverse of `state`."""
        ...


class Checkpointed:
    """Saves a run's state to a file that belongs to this run alone, and restores it."""

    def __init__(self, run: Resumable, identity: Callable[[], list[Any]]) -> None:
        """`identity` is plain JSON: inputs, settings, engine. It is read once, since inputs never change."""
        self.run, self.identity = run, identity

    @cached_property
    def key(self) -> str:
        """What a checkpoint belongs to."""
        return key_of(*self.identity())

    def save(self, path: Path) -> None:
        """Raises InputError where it cannot be written (a full disk …)."""
        found = self.run.state()
        # where processes have some of the Gaussians each, all of them give theirs
        if current().leads:
            save_state(path, *found, self.key)

    def resume(self, path: Path) -> bool:
        """Continue from a checkpoint of this run; False where there is none. Raises InputError where it is damaged."""
        found = load_state(path, self.key)
        if found is not None:
            self.run.load_state(*found)
        return found is not None


def joined(**parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of several parts under names "part.tensor"; `part` takes one out again."""
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def part(tensors: dict[str, Tensor], name: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of one part of what `joined` made, on `device`; lone numbers stay on the CPU."""
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): tensor if tensor.ndim == 0 else tensor.to(device)
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def adam_memory(tensors: dict[str, Tensor], prefix: str, parameter: Tensor) -> dict[str, Tensor]:
    """Adam's state of `parameter`, from the tensors under "prefix.step" and so on; empty where there is nothing.

    Raises ValueError where shapes or types do not fit.
    """
    found: dict[str, Tensor] = {}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        value = tensors.get(f"{prefix}.{key}")
        if value is None:
            continue
        lone = key == "step"
        # torch's fused Adam does not check shapes and reads beyond a tensor that is too short
        wanted = (torch.Size(), torch.float32) if lone else (parameter.shape, parameter.dtype)
        if (value.shape, value.dtype) != wanted:
            raise ValueError(f"{prefix}.{key} has shape {tuple(value.shape)} and type {value.dtype}")
        found[key] = value.to("cpu" if lone and not parameter.is_cuda else parameter.device).clone()
    return found


def save_state(path: Path, tensors: dict[str, Tensor], numbers: dict[str, Any], key: str) -> None:
    """Write tensors and plain numbers; a kill leaves the old file or the new one. Raises InputError (a full disk …)."""
    header = {"format": FORMAT, "version": str(VERSION), "key": key, "numbers": json.dumps(numbers)}
    with write_atomically(path) as partial:
        write_tensors(partial, tensors, header)


def load_state(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors, numbers) of a checkpoint that belongs to `key`; None where there is none, or it belongs to another run.

    Raises InputError where the file is damaged, and where it is not a checkpoint: the run would replace and remove it.
    """
    if not path.is_file():
        return None
    try:
        header = read_header(path).metadata
        if (header.get("format"), header.get("version"), header.get("key")) == (FORMAT, str(VERSION), key):
            return read_tensors(path), parse_json(header.get("numbers", ""))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            "TRN-019",
            f"{path.name} is damaged and cannot be resumed ({error}); delete it to start over.",
        ) from error
    if header.get("format") != FORMAT:
        raise InputError(
            "TRN-045",
            f"{path.name} is not a training checkpoint, and this run would replace it. Enter another checkpoint file.",
        )
    return None
