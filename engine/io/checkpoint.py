"""A scene as one .safetensors file: tensors bit for bit, everything else in a JSON header. Written whole or not at all.

Layout: an unsigned 64-bit little-endian header length, the JSON header, the tensors (as the safetensors format has it).
`__metadata__` holds `format` ("gs4d-scene"), `version` and `scene`, the JSON text of rig, bounds, deformation and
history. Floating-point numbers are written with the shortest digits that read back as the same float64.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..deform import KINDS
from ..errors import InputError
from ..scene import Cameras, Deformation, Gaussians, Scene4D
from .atomic import write_atomically
from .tensorfile import write_tensors

FORMAT = "gs4d-scene"
VERSION = 1
LARGEST_HEADER = 100 * 2**20  # bytes; the format's own limit
GAUSSIANS = ("means", "log_scales", "quats", "logit_opacities", "sh")


def save_scene(scene: Scene4D, path: Path | str) -> Path:
    """Write `scene` to `path` (under a temporary name, then renamed). Raises InputError where that is not possible."""
    path = Path(path)
    tensors = {f"gaussians.{name}": t for name, t in scene.canonical.tensors().items()}
    tensors |= {f"deformation.{name}": t for name, t in scene.deformation.tensors().items()}
    tensors |= {"times": scene.times, "bounds": scene.bounds, "background": scene.background}
    tensors |= {"rig.world_to_camera": scene.rig.world_to_camera, "rig.K": scene.rig.K}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{path.name} was not written: '{name}' of the scene holds NaN or infinite values, so the step that made "
                "it has failed; run it again with a lower learning rate."
            )
    about = {
        "deformation": {"kind": scene.deformation.kind, "config": scene.deformation.config()},
        "rig": {"names": list(scene.rig.names), "sizes": [list(size) for size in scene.rig.sizes]},
        "history": list(scene.history),
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "scene": json.dumps(about, ensure_ascii=False, default=str),
    }
    with write_atomically(path) as partial:
        write_tensors(partial, tensors, metadata)
    return path


def load_scene(path: Path | str) -> Scene4D:
    """The scene that `save_scene` wrote. Raises InputError: missing, cut short, not a scene, newer, damaged, NaN."""
    path = Path(path)
    about = _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            # cloned: a view of the file's memory may lie anywhere, and goes when the file is replaced
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path.name} is damaged ({_short(error)}); copy or export it again.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{path.name}: '{name}' holds NaN or infinite values; the file is damaged, export it again."
            )
    try:
        return _assemble(tensors, about, path.name)
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(path.name) else f"{path.name}: {message}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path.name}: its description does not fit its tensors ({type(error).__name__}: {_short(error)}); the file is "
            "damaged, export it again."
        ) from error


def _check_header(path: Path) -> dict[str, Any]:
    """The JSON description; every claim of the header is held against the file's size before anything is allocated."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            f"The scene file {path.name} {found}; give a .safetensors file that this pack saved."
        )
    not_one = InputError(f"{path.name} is not a 4D scene of this pack; give a file that Save 4D Scene wrote.")
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > LARGEST_HEADER or length < 2:
                raise not_one
            if 8 + length > size:
                raise InputError(f"{path.name} is cut short inside its header; copy or download it again.")
            text = file.read(length)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.") from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_one from error
    metadata = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise not_one
    version = str(metadata.get("version", ""))
    if not version.isdigit() or int(version) < 1:
        raise InputError(
            f"{path.name}: its version '{version[:20]}' cannot be read; the file is damaged, export it again."
        )
    if int(version) > VERSION:
        raise InputError(
            f"{path.name} was written by a newer version of this pack (file format {version[:20]}, known up to {VERSION}); "
            "update the pack to open it."
        )
    end = 0
    for name, entry in header.items():
        try:
            end = max(end, *(int(offset) for offset in entry["data_offsets"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path.name}: the entry of '{name[:60]}' is damaged; export the scene again."
            ) from error
    if 8 + length + end > size:
        raise InputError(
            f"{path.name} is cut short: {size:,} of {8 + length + end:,} bytes are there; copy or download it again."
        )
    try:
        about = json.loads(metadata["scene"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name}: its description is missing or damaged; export the scene again."
        ) from error
    if not isinstance(about, dict):
        raise InputError(f"{path.name}: its description is damaged; export the scene again.")
    return about


def _assemble(tensors: dict[str, Tensor], about: dict[str, Any], name: str) -> Scene4D:
    def take(key: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor:
        tensor = tensors.get(key)
        found = None if tensor is None else tuple(tensor.shape)
        fits = found is not None and len(found) == len(shape)
        if (
            tensor is None
            or found is None
            or not fits
            or any(w not in (None, f) for w, f in zip(shape, found, strict=True))
        ):
            wanted = " × ".join("any" if size is None else str(size) for size in shape)
            raise InputError(
                f"{name}: '{key}' has shape {found}, expected {wanted}; the file is damaged, export it again."
            )
        if tensor.dtype != dtype:
            raise InputError(
                f"{name}: '{key}' is {tensor.dtype}, expected {dtype}; the file is damaged, export it again."
            )
        return tensor

    kind = about["deformation"]["kind"]
    if kind not in KINDS:
        raise InputError(
            f"{name}: its motion is of the kind '{str(kind)[:40]}', which this version does not know "
            f"({', '.join(KINDS)}); update the pack."
        )
    raw = {key: tensors[f"gaussians.{key}"] for key in GAUSSIANS if f"gaussians.{key}" in tensors}
    missing = [key for key in GAUSSIANS if key not in raw or not raw[key].is_floating_point()]
    if missing:
        raise InputError(
            f"{name}: the tensors {', '.join(missing)} of the Gaussians are missing; export the scene again."
        )
    canonical = Gaussians(**raw)
    prefix = "deformation."
    parts = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    deformation: Deformation = KINDS[kind].from_parts(dict(about["deformation"]["config"]), parts)
    sizes = tuple((int(w), int(h)) for w, h in about["rig"]["sizes"])
    views = len(sizes)
    if any(not 0 < side <= 1 << 20 for size in sizes for side in size):
        raise InputError(
            f"{name}: a camera's picture size is not between 1 and {1 << 20} pixels; export the scene again."
        )
    rig = Cameras(
        take("rig.world_to_camera", (views, 4, 4), tensors["rig.world_to_camera"].dtype),
        take("rig.K", (views, 3, 3), tensors["rig.K"].dtype),
        sizes,
        tuple(str(n) for n in about["rig"]["names"]),
    )
    times = take("times", (None,), torch.float64)
    if len(times) == 0 or bool((times.diff() <= 0).any()):
        raise InputError(
            f"{name}: its {len(times)} times do not ascend; the file is damaged, export it again."
        )
    return Scene4D(
        canonical=canonical,
        deformation=deformation,
        times=times,
        rig=rig,
        bounds=take("bounds", (2, 3), torch.float64),
        background=take("background", (3,), torch.float32),
        history=tuple(dict(entry) for entry in about.get("history", ())),
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:120]
