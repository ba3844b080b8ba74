"""Checkpoints of a training: all that the next step depends on, and what it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.errors import InputError
from engine.files.atomic import write_atomically


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    with write_atomically(path) as partial:
        torch.save(dict(state), partial)


def load(path: Path, network: nn.Module, described: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: The file.
        network: Whose weights it has; not changed.
        described: What the training is made with, as plain JSON; only `network` in it must be the same.

    Raises:
        InputError: The file is damaged, or its network is another one.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        weights = saved["network"]
        needed = {"optimizer", "generator", "average", "step", "seconds"} - set(saved)
        if needed:
            raise KeyError(sorted(needed)[0])
    except Exception as error:
        raise InputError(
            "NET-002",
            f"{path.name} cannot be read as a checkpoint ({type(error).__name__}). Remove it to start again, or choose "
            "another folder.",
        ) from error
    other = differences(saved.get("described", {}).get("network", {}), described.get("network", {}))
    own = network.state_dict()
    shapes = [
        f"{name} has the shape {_shape(weights.get(name))}, not {_shape(own.get(name))}"
        for name in [*own, *(n for n in weights if n not in own)]
        if _shape(weights.get(name)) != _shape(own.get(name))
    ]
    if other or shapes:
        raise InputError(
            "NET-003",
            f"{path.name} is a checkpoint of another configuration: {'; '.join((other or shapes)[:3])}. Choose another "
            "folder, or the configuration that it was made with.",
        )
    return saved


def differences(then: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two descriptions, where the first has a value: "width is 192, not 64"."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        return [
            line
            for key in then
            if key in now
            for line in differences(then[key], now[key], f"{name}.{key}" if name else key)
        ]
    same = (
        list(then) == list(now)
        if isinstance(then, list | tuple) and isinstance(now, list | tuple)
        else then == now
    )
    return [] if same else [f"{name} is {then}, not {now}"]


def _shape(tensor: torch.Tensor | None) -> str:
    return "none" if tensor is None else "×".join(map(str, tensor.shape)) or "1"
