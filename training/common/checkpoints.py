"""Checkpoints of a training: all that the next step depends on, and what it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from engine.errors import InputError
from engine.files.atomic import write_atomically
from engine.files.paths import printable


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all. InputError where the disk is full or cannot be written."""
    with write_atomically(path) as partial, open(partial, "wb") as file:
        # for torch, a file is what can be written and flushed
        watched: Any = _Watched(file)
        try:
            torch.save(dict(state), watched)
        except RuntimeError:
            # torch says nothing of a full disk
            if watched.error is None:
                raise
            raise watched.error from None


class _Watched:
    """A file that remembers why it could not be written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def load(path: Path, network: nn.Module, described: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: The file.
        network: Whose weights it has; not changed.
        described: What the training is made with, as plain JSON; only `network` in it must be the same.

    Raises:
        InputError: The file is damaged, or its network is another one.
    """
    saved = _read(path, "network", "optimizer", "generator", "average", "step", "seconds")
    other = differences(saved.get("described", {}).get("network", {}), described.get("network", {}))
    _check_same(path, other or _other_shapes(saved["network"], network))
    return saved


def load_average(path: Path, network: nn.Module, made_by: str) -> None:
    """Give a network the averaged weights of a checkpoint, as they are exported.

    Args:
        path: The file.
        network: Changed in place.
        made_by: The command that writes the file, for the error where there is none.

    Raises:
        InputError: The file is missing or damaged, or its network is another one.
    """
    if not path.is_file():
        raise InputError(
            "NET-013",
            f"There is no {printable(path.name)} in {printable(str(path.parent))}. Train it first with `{made_by}`, or choose "
            "the folder of its run.",
        )
    weights = _read(path, "average")["average"]
    _check_same(path, _other_shapes(weights, network))
    network.load_state_dict(weights)


def _read(path: Path, *needed: str) -> dict[str, Any]:
    """A checkpoint that has what is needed. Raises InputError."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        missing = sorted(set(needed) - set(saved))
        if missing:
            raise KeyError(missing[0])
    except Exception as error:
        raise InputError(
            "NET-002",
            f"{path.name} cannot be read as a checkpoint ({type(error).__name__}). Remove it to start again, or choose "
            "another folder.",
        ) from error
    return saved


def _other_shapes(weights: Mapping[str, torch.Tensor], network: nn.Module) -> list[str]:
    """The weights whose shapes are not those of the network."""
    own = network.state_dict()
    return [
        f"{name} has the shape {_shape(weights.get(name))}, not {_shape(own.get(name))}"
        for name in [*own, *(n for n in weights if n not in own)]
        if _shape(weights.get(name)) != _shape(own.get(name))
    ]


def _check_same(path: Path, other: list[str]) -> None:
    """InputError, with the first of the differences, where there are any."""
    if other:
        raise InputError(
            "NET-003",
            f"{path.name} is a checkpoint of another configuration: {'; '.join(other[:3])}. Choose another "
            "folder, or the configuration that it was made with.",
        )


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
