"""A Scene4D as one `.safetensors` file with a JSON header: saved and loaded it is bit for bit itself.

Tensors: `gaussians.*` (pre-activation), `deformation.*`. The header's `gs4d` entry holds everything else: format and
version, the deformation's kind and config, times, rig, bounds, background, history. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..deform import KINDS
from ..errors import InputError
from ..scene import Cameras, Gaussians, Scene4D
from .atomic import write_atomically

FORMAT, VERSION = "gs4d-scene", 1
KEY = "gs4d"
MOST_GAUSSIANS = 50_000_000


def save_scene(scene: Scene4D, path: Path | str) -> Path:
    """Write a scene, whole or not at all; the file ends in .safetensors. Raises InputError."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path.name}: a scene file ends in .safetensors; name it {path.stem}.safetensors.")
    if scene.deformation.kind not in KINDS:
        raise InputError(f"A scene with the motion '{scene.deformation.kind}' cannot be stored.")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "deformation": {"kind": scene.deformation.kind, "config": scene.deformation.config()},
        "times": scene.times.double().tolist(),
        "rig": scene.rig.to_json(),
        "bounds": scene.bounds.double().tolist(),
        "background": scene.background.double().tolist(),
        "history": list(scene.history),
    }
    tensors = {f"gaussians.{name}": t for name, t in scene.canonical.tensors().items()}
    tensors |= {f"deformation.{name}": t for name, t in scene.deformation.tensors().items()}
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with write_atomically(path) as partial:
        save_file(plain, partial, metadata={KEY: json.dumps(header)})
    return path


def load_scene(path: Path | str) -> Scene4D:
    """Read a scene onto the CPU. Raises InputError where the file is missing, cut short, of another kind or newer."""
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no scene file {path.name}; check the path, or train and save a scene first."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, (file.metadata() or {}).get(KEY))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read ({error}); it is cut short or no .safetensors file: copy or save it again."
        ) from error
    try:
        return _scene(path, header, tensors)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path.name} is damaged: {type(error).__name__} {error}; save the scene again."
        ) from error


def scene_fingerprint(path: Path | str) -> str:
    """Changes when the file does (name, size, modification time)."""
    stat = Path(path).stat()
    return hashlib.sha256(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]


def _header(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise InputError(f"{path.name} is a .safetensors file, but not a scene of this pack.")
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name}: its header is no JSON ({error}); the file is damaged.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{path.name} is a .safetensors file, but not a scene of this pack.")
    version = header.get("version")
    if not isinstance(version, int) or version < 1:
        raise InputError(f"{path.name}: its version is {version!r}; the file is damaged.")
    if version > VERSION:
        raise InputError(
            f"{path.name} was written by a newer version (format {version}, this pack reads up to {VERSION}); update the pack."
        )
    return header


def _scene(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Scene4D:
    names = {"means", "log_scales", "quats", "logit_opacities", "sh"}
    given = {n.removeprefix("gaussians."): t for n, t in tensors.items() if n.startswith("gaussians.")}
    if given.keys() != names:
        wrong = ", ".join(sorted(names ^ given.keys()))
        raise InputError(f"the Gaussians' tensors do not match ({wrong}); the file is damaged.")
    for name, tensor in given.items():
        if not tensor.is_floating_point() or len(tensor) > MOST_GAUSSIANS:
            raise InputError(
                f"the tensor {name} has type {tensor.dtype} and {len(tensor)} rows; no scene has these."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"the tensor {name} holds NaN or infinite numbers; the scene cannot be shown.")
    gaussians = Gaussians(**given)
    motion = header["deformation"]
    kind = KINDS.get(motion["kind"])
    if kind is None:
        raise InputError(
            f"its motion is of the kind '{motion['kind']}', which this version does not know; update the pack."
        )
    parts = {n.removeprefix("deformation."): t for n, t in tensors.items() if n.startswith("deformation.")}
    deformation = kind.from_parts(motion["config"], parts)
    times = torch.tensor(header["times"], dtype=torch.float64)
    bounds = torch.tensor(header["bounds"], dtype=torch.float64)
    background = torch.tensor(header["background"], dtype=torch.float32)
    if times.ndim != 1 or len(times) == 0 or bounds.shape != (2, 3) or background.shape != (3,):
        raise InputError("times, bounds or background have the wrong shape; the file is damaged.")
    finite = all(
        math.isfinite(x) for x in [*times.tolist(), *bounds.flatten().tolist(), *background.tolist()]
    )
    if not finite or bool((times.diff() <= 0).any()):
        raise InputError(
            "times, bounds or background hold numbers that no scene can have; the file is damaged."
        )
    history = header.get("history", [])
    if not isinstance(history, list):
        raise InputError("its history is no list; the file is damaged.")
    rig = Cameras.from_json(header["rig"])
    return Scene4D(gaussians, deformation, times, rig, bounds, background, tuple(history))
