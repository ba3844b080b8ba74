"""Load published weights into a network that was built without memory: names and shapes first, then tensor by tensor.

Every name and shape of a file is compared with the network before a tensor is read, so that a wrong or incomplete file is
one sentence at once, and not an exception of a layer after minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files.safetensors_reader import open_tensors
from ..files.weights import read_header, refuse_pickle

# name in the file -> name in the network; None: not a part of it
Rename = Callable[[str], str | None]


_Network = TypeVar("_Network", bound=nn.Module)


def on_meta(build: Callable[[], _Network]) -> _Network:
    """Build a network without memory, on torch's meta device."""
    with torch.device("meta"):
        return build()


def load_weights(
    network: _Network,
    path: Path,
    what: str,
    *,
    rename: Rename = str,
    defaults: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> _Network:
    """Fill a network from a .safetensors file, one tensor at a time.

    Args:
        network: The network, usually from `on_meta`; its parameters are replaced.
        path: The file.
        what: The network's name in messages, such as "TRELLIS' structure flow".
        rename: How the file's names become the network's.
        defaults: Tensors that the file may lack, by the network's names.
        device: Where the tensors go. Their dtypes are the network's.

    Returns:
        `network`, frozen and in eval mode.

    Raises:
        InputError: The file is a pickle, is damaged, or belongs to another network.
    """
    refuse_pickle(path)
    shapes = read_header(path).shapes
    with open_tensors(path) as file:
        return load_state(
            network,
            shapes,
            file.get_tensor,
            f"{path.parent.name}/{path.name}",
            what,
            rename=rename,
            defaults=defaults,
            device=device,
        )


def load_state(
    network: _Network,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Tensor],
    source: str,
    what: str,
    *,
    rename: Rename = str,
    defaults: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> _Network:
    """Fill a network from tensors that are read by name; see `load_weights`.

    Args:
        network: The network; its parameters are replaced.
        shapes: Names and shapes of all tensors of the source.
        read: One of its tensors, by its name there.
        source: The source's name in messages.
        what: The network's name in messages.
        rename: How the source's names become the network's.
        defaults: Tensors that the source may lack, by the network's names.
        device: Where the tensors go.

    Raises:
        InputError: Names or shapes differ.
    """
    names = _names(network, shapes, source, what, rename, defaults or {})
    own, defaults = network.state_dict(), defaults or {}
    state = {
        name: (read(names[name]) if name in names else defaults[name]).to(device, tensor.dtype)
        for name, tensor in own.items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def check_weights(
    network: nn.Module, path: Path, what: str, *, rename: Rename = str, defaults: Iterable[str] = ()
) -> None:
    """Compare names and shapes without reading a tensor; arguments and error as `load_weights`."""
    refuse_pickle(path)
    source = f"{path.parent.name}/{path.name}"
    _names(network, read_header(path).shapes, source, what, rename, dict.fromkeys(defaults))


def check_shapes(network: nn.Module, shapes: Mapping[str, tuple[int, ...]], source: str, what: str) -> None:
    """Compare names and shapes of several files together with a network; arguments and error as `load_state`."""
    _names(network, shapes, source, what, str, {})


def _names(
    network: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    source: str,
    what: str,
    rename: Rename,
    defaults: Mapping[str, Any],
) -> dict[str, str]:
    """The source's names by the network's, of all tensors that the network needs. Raises InputError where they differ."""
    own = network.state_dict()
    named = {rename(name): name for name in shapes}
    names = {new: old for new, old in named.items() if new is not None}
    missing = [name for name in own if name not in names and name not in defaults]
    unexpected = [old for new, old in names.items() if new not in own]
    other = [name for name in own if name in names and tuple(own[name].shape) != shapes[names[name]]]
    if missing or unexpected or other:
        found: list[str] = []
        if missing:
            found.append(f"{len(missing)} of {len(own)} tensors are missing (such as {missing[0]})")
        if unexpected:
            found.append(f"{len(unexpected)} are unknown (such as {unexpected[0]})")
        if other:
            name = other[0]
            sizes = (list(shape) for shape in (shapes[names[name]], own[name].shape))
            found.append(
                f"{len(other)} have another shape (such as {name}: {' instead of '.join(map(str, sizes))})"
            )
        raise InputError(
            "MOD-001",
            f"{source} does not hold the weights of {what}: {', '.join(found)}. Use the published file of this model.",
        )
    return names
