"""Files of a sample to tensors: .npy, .png, .json and .safetensors, none of which can hold code."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load as load_safetensors
from torch import Tensor

from engine.files.paths import printable

T = TypeVar("T")
# of one image, before it is decoded
LARGEST_IMAGE = 1 << 28
_TYPES: dict[str, tuple[torch.dtype, ...]] = {
    "uint8": (torch.uint8,),
    "bool": (torch.bool,),
    "int": (torch.int64, torch.int32, torch.int16),
    "float": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
}


@dataclass(frozen=True)
class SampleKind(Generic[T]):
    """What a network is trained with.

    Args:
        name: As `kind` of a sample's .json.
        fields: Shape and type of each tensor, such as "T S S 3 uint8"; the same letter is the same size in all fields
            and samples.
        build: A sample of its fields. Raises ValueError where they do not fit each other or the network.
        sizes: Sizes that are known.
    """

    name: str
    fields: Mapping[str, str]
    build: Callable[[dict[str, Tensor]], T]
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])

    def read(self, files: Mapping[str, bytes], sizes: dict[str, int]) -> T:
        """A sample of its files, by what follows the key in their names ("images.npy"); new sizes are added to `sizes`.

        Raises:
            ValueError: Something is missing, damaged or of another shape; names it.
        """
        found: dict[str, Tensor] = {}
        for name, data in files.items():
            found |= _decoded(name, data, self.name)
        missing = sorted(set(self.fields) - set(found))
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        new = dict(sizes)
        checked = {name: _checked(name, found[name], spec, new) for name, spec in self.fields.items()}
        sample = self.build(checked)
        sizes |= new
        return sample


def _decoded(name: str, data: bytes, kind: str) -> dict[str, Tensor]:
    """The tensors of a file; none if its type is not one of ours."""
    stem, _, ending = name.rpartition(".")
    try:
        if ending == "safetensors":
            return load_safetensors(data)
        if ending == "npy":
            return {stem: _npy(data)}
        if ending == "png":
            return {stem: _png(data)}
        if ending == "json":
            return _json(data, kind)
    # whatever a damaged file makes a decoder raise
    except Exception as error:
        raise ValueError(
            printable(f"{name} cannot be read ({' '.join(str(error).split())[:120]})")
        ) from error
    return {}


def _npy(data: bytes) -> Tensor:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    # the size is in the header: nothing is allocated that the file does not have
    if math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise ValueError("it is cut short")
    array = np.load(io.BytesIO(data), allow_pickle=False)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _png(data: bytes) -> Tensor:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if math.prod(image.size) > LARGEST_IMAGE:
            raise ValueError(f"it has {image.size[0]} × {image.size[1]} pixels")
        if image.mode not in ("L", "RGB", "RGBA"):
            raise ValueError(f"its mode is {image.mode}, not L, RGB or RGBA")
        return torch.from_numpy(np.array(image))


def _json(data: bytes, kind: str) -> dict[str, Tensor]:
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("it is not an object")
    if values.get("kind", kind) != kind:
        raise ValueError(f"its kind is {str(values['kind'])[:40]!r}, not {kind!r}")
    return {name: torch.tensor(value) for name, value in values.items() if _is_numbers(value)}


def _is_numbers(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, bool | int | float)


def _checked(name: str, value: Tensor, spec: str, sizes: dict[str, int]) -> Tensor:
    *wanted, kind = spec.split()
    # a video as one image: its frames from top to bottom
    if kind == "uint8" and value.ndim == len(wanted) - 1 == 3 and value.shape[0] % value.shape[1] == 0:
        value = value.unflatten(0, (-1, value.shape[1]))
    known = [sizes.get(size, int(size) if size.isdigit() else None) for size in wanted]
    fits = value.ndim == len(wanted) and all(k in (None, n) for k, n in zip(known, value.shape, strict=True))
    if not fits or value.dtype not in _TYPES[kind]:
        shape = "×".join(str(k or letter) for k, letter in zip(known, wanted, strict=True)) or "one"
        is_now = "×".join(map(str, value.shape)) or "one"
        raise ValueError(f"{name} is {is_now} {str(value.dtype).removeprefix('torch.')}, not {shape} {kind}")
    for size, count in zip(wanted, value.shape, strict=True):
        if not size.isdigit() and sizes.setdefault(size, count) != count:
            raise ValueError(f"{name} is {'×'.join(map(str, value.shape))}, but {size} is {sizes[size]}")
    if value.is_floating_point() and not bool(value.isfinite().all()):
        raise ValueError(f"{name} has values that are not finite")
    return value
