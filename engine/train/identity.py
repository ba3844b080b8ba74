"""The identity of a training: its inputs and settings as plain JSON, known before it starts.

A checkpoint belongs to one identity. `input_identity` knows the engine's own values; a value from outside takes part
through an attribute or a method named `fingerprint`, or by registering with `identity_of`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..latent import LatentField, VaeSignature
from ..scene import Cameras, Deformation, Gaussians, MultiViewVideo, Scene4D, Selection, ViewSet
from .loop import shaping


def key_of(*parts: Any) -> str:
    """A short hash of plain JSON values: what a checkpoint belongs to."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fingerprint_of(*tensors: Tensor) -> str:
    """A short hash of the tensors' shapes, types and bits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()[:32]


def identity(config: Any, *values: Any) -> list[Any]:
    """Plain JSON for a step's settings and inputs: equal where the same work would give the same result.

    Args:
        config: The step's Config (a dataclass). Fields that only say when to save, show or stop do not count.
        values: The inputs, in a fixed order; see `input_identity`.
    """
    return [_shaping(config), *input_identity(*values)]


def input_identity(*values: Any) -> list[Any]:
    """Plain JSON, one entry for each value, that differs where the contents differ.

    Args:
        values: Scenes, selections, videos, view sets, latent fields, models, tensors, modules, plain JSON values,
            paths, devices, None, and lists, tuples and dictionaries of these.

    Raises:
        TypeError: A value of another type, which would make every run look new.
    """
    return [identity_of(value) for value in values]


@singledispatch
def identity_of(value: Any) -> Any:
    """Plain JSON for one value. Register further types with `identity_of.register`."""
    fingerprint = getattr(value, "fingerprint", None)
    if fingerprint is not None:
        return {"fingerprint": fingerprint() if callable(fingerprint) else fingerprint}
    if isinstance(value, Deformation):
        return _deformation(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"config": type(value).__qualname__, **_shaping(value)}
    raise TypeError(
        f"{type(value).__name__} cannot be told apart for checkpoints; give it a fingerprint, or register it with identity_of."
    )


@identity_of.register(type(None))
@identity_of.register(bool)
@identity_of.register(int)
@identity_of.register(float)
@identity_of.register(str)
def _plain(value: Any) -> Any:
    return value


@identity_of.register(Path)
@identity_of.register(torch.device)
@identity_of.register(torch.dtype)
def _text(value: Any) -> str:
    return str(value)


@identity_of.register(list)
@identity_of.register(tuple)
def _sequence(values: Any) -> list[Any]:
    return input_identity(*values)


@identity_of.register(dict)
def _mapping(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): identity_of(value) for key, value in values.items()}


@identity_of.register(Tensor)
def _tensor(value: Tensor) -> dict[str, str]:
    return {"tensor": fingerprint_of(value)}


@identity_of.register(nn.Module)
def _module(value: nn.Module) -> Any:
    # HexPlane is a module and a deformation: its settings count as well
    if isinstance(value, Deformation):
        return _deformation(value)
    return {"module": type(value).__qualname__, "tensors": _tensors(dict(value.state_dict()))}


@identity_of.register(Cameras)
def _cameras(value: Cameras) -> dict[str, Any]:
    return value.to_json()


@identity_of.register(Gaussians)
def _gaussians(value: Gaussians) -> Any:
    return _tensors(value.tensors())


@identity_of.register(Selection)
def _selection(value: Selection) -> dict[str, str]:
    return {"selection": fingerprint_of(value.weights)}


@identity_of.register(Scene4D)
def _scene(value: Scene4D) -> dict[str, Any]:
    return {
        "canonical": identity_of(value.canonical),
        "deformation": _deformation(value.deformation),
        "rig": value.rig.to_json(),
        "tensors": fingerprint_of(value.times, value.bounds, value.background),
        # steps look up in it what was edited before
        "history": list(value.history),
    }


@identity_of.register(MultiViewVideo)
def _video(value: MultiViewVideo) -> dict[str, Any]:
    tensors = [value.times, value.available, value.background, value.points, value.point_colors]
    return {
        "frames": value.source.fingerprint(),
        "cameras": value.cameras.to_json(),
        "tensors": input_identity(*tensors),
        "views": [list(value.train_views), list(value.test_views)],
        "numbers": [value.has_masks, value.near, value.far],
        # absent where nothing is held out, so that older checkpoints go on
        **({"test moments": list(value.test_moments)} if value.test_moments else {}),
        **({} if value.tracks is None else {"tracks": _tensors(vars(value.tracks))}),
    }


@identity_of.register(ViewSet)
def _views(value: ViewSet) -> dict[str, Any]:
    return {
        "tensors": input_identity(value.images, value.originals, value.alphas),
        "cameras": value.cameras.to_json(),
        "pairs": [list(value.views), list(value.moments), list(value.seconds)],
        "edit": value.edit,
    }


@identity_of.register(VaeSignature)
def _vae(value: VaeSignature) -> list[Any]:
    return [value.name, value.channels, value.factor, fingerprint_of(value.card)]


@identity_of.register(LatentField)
def _field(value: LatentField) -> dict[str, Any]:
    return {
        "scene": identity_of(value.scene),
        "tensors": fingerprint_of(value.features, value.background),
        "refiner": identity_of(value.refiner),
        "size": list(value.size),
        "how": asdict(value.how),
        "vae": identity_of(value.vae),
        "before": identity_of(value.before),
    }


def _shaping(config: Any) -> dict[str, Any]:
    return {name: identity_of(value) for name, value in shaping(config).items()}


def _deformation(value: Deformation) -> dict[str, Any]:
    return {"kind": value.kind, "config": value.config(), "tensors": _tensors(value.tensors())}


def _tensors(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"names": sorted(tensors), "bits": fingerprint_of(*(t for _, t in sorted(tensors.items())))}
