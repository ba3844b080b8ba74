"""A .safetensors of our own networks: the weights, and what describes the network as JSON in the header's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files.atomic import write_atomically
from ..files.jsonfile import parse_json
from ..files.safetensors_writer import write_tensors
from ..files.weights import read_header, refuse_pickle


def write_described(
    path: Path, state: Mapping[str, Tensor], described: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write weights and their description.

    Args:
        path: The .safetensors file.
        state: Tensors by name.
        described: Plain JSON with the entry "kind".
        dtype: Precision in the file.
    """
    metadata = {"format": str(described["kind"]), "config": json.dumps(described)}
    with write_atomically(path) as partial:
        write_tensors(partial, {name: value.to(dtype) for name, value in state.items()}, metadata)


def description_of(path: Path) -> dict[str, Any] | None:
    """The description in a file's header; None where there is none.

    Raises:
        InputError: The file is a pickle, or no whole .safetensors file.
    """
    refuse_pickle(path)
    text = read_header(path).metadata.get("config")
    try:
        found = None if text is None else parse_json(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
