"""Save and load a latent field as one .safetensors file: scene, features, refiner, and the field before the edit.

See `engine.files.safetensors_format` for the layout. The field before an edit has the prefix "before."; tensors that the
edit did not change are written once.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files.safetensors_format import SafetensorsFormat
from ..io.scene_file import describe_scene, scene_of, scene_tensors
from ..models.latent_refiner import LatentRefiner, RefinerShape
from .field import LatentField
from .rasterize import Drawing
from .vae_signature import SIDE, VaeSignature

FIELD = SafetensorsFormat(
    "gs4d-latent-field",
    1,
    "field",
    "latent field",
    "train-latents or delta-edit wrote",
    "train or edit it again",
)
BEFORE, REFINER = "before.", "refiner."
# numbers of spherical harmonics
BASES = (1, 4, 9, 16)
# upper limit of sizes and counts in a file
WIDEST = 1 << 20


def save_field(field: LatentField, path: Path | str) -> Path:
    """Write a latent field.

    Args:
        field: The field.
        path: Target file; written under a temporary name first, then renamed.

    Returns:
        `path`.

    Raises:
        InputError: The file cannot be written, or the field contains NaN.
    """
    path = Path(path)
    tensors, about = _parts(field)
    FIELD.write(path, tensors, about)
    return path


def load_field(path: Path | str) -> LatentField:
    """Read a latent field that `save_field` wrote.

    Args:
        path: The file.

    Returns:
        The field, on the CPU.

    Raises:
        InputError: The file is missing, cut short, of another kind or a newer version, damaged, or contains NaN.
    """
    path = Path(path)
    tensors, about = FIELD.read(path)
    with FIELD.assembling(path):
        return _field(tensors, about)


def _parts(field: LatentField) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = scene_tensors(field.scene)
    tensors |= {
        "features": field.features,
        "latent_background": field.background,
        "codec.card": field.vae.card,
    }
    about: dict[str, Any] = {
        "scene": describe_scene(field.scene),
        "size": list(field.size),
        "codec": {
            "name": field.vae.name,
            "channels": field.vae.channels,
            "factor": field.vae.factor,
        },
        "drawing": asdict(field.how),
        "refiner": None if field.refiner is None else field.refiner.shape.to_json(),
    }
    if field.refiner is not None:
        tensors |= {f"{REFINER}{name}": tensor for name, tensor in field.refiner.state_dict().items()}
    if field.before is not None:
        first, description = _parts(field.before)
        same = [name for name, tensor in first.items() if name in tensors and _alike(tensor, tensors[name])]
        tensors |= {f"{BEFORE}{name}": tensor for name, tensor in first.items() if name not in same}
        about["before"] = {**description, "same": same}
    return tensors, about


def _field(tensors: dict[str, Tensor], about: dict[str, Any]) -> LatentField:
    def take(key: str, *shape: int | None) -> Tensor:
        return FIELD.tensor(tensors, key, shape, torch.float32)

    own = {key: tensor for key, tensor in tensors.items() if not key.startswith(BEFORE)}
    scene = scene_of(own, about["scene"], FIELD)
    vae, drawing = about["codec"], dict(about["drawing"])
    channels, factor = vae["channels"], vae["factor"]
    width, height = about["size"]
    if not all(_counts(number) for number in (channels, factor, width, height, drawing["samples"])):
        raise _broken("its channels, factor, size or samples are not positive integers")
    if width % factor or height % factor:
        raise _broken(f"its image size of {width}×{height} is not a multiple of {factor}")
    if not _is_valid(drawing):
        raise _broken("its rasterization settings are invalid")
    features = take("features", len(scene.canonical), None, channels)
    if features.shape[1] not in BASES:
        raise _broken(f"'features' has {features.shape[1]} values per channel instead of 1, 4, 9 or 16")
    before = None
    if about.get("before") is not None:
        description = about["before"]
        first = {key.removeprefix(BEFORE): t for key, t in tensors.items() if key.startswith(BEFORE)}
        first |= {key: own[key] for key in description["same"]}
        before = _field(first, description)
    return LatentField(
        scene=scene,
        features=features,
        background=take("latent_background", channels),
        size=(width, height),
        vae=VaeSignature(str(vae["name"]), channels, factor, take("codec.card", channels, SIDE, SIDE)),
        refiner=_refiner(own, about["refiner"], channels),
        how=Drawing(**drawing),
        before=before,
    )


def _broken(what: str) -> InputError:
    return InputError("LAT-002", f"{what}; the file is damaged, {FIELD.again}.")


def _is_valid(drawing: dict[str, Any]) -> bool:
    floor = drawing["scale_floor"]
    return type(floor) in (int, float) and 0 <= floor < math.inf and type(drawing["antialiased"]) is bool


def _refiner(tensors: dict[str, Tensor], about: dict[str, Any] | None, channels: int) -> LatentRefiner | None:
    weights = {key.removeprefix(REFINER): t for key, t in tensors.items() if key.startswith(REFINER)}
    if about is None:
        return None
    shape = RefinerShape(**about)
    counts = asdict(shape).values()
    if (
        not all(_counts(number) for number in counts)
        or shape.latent_channels != channels
        or shape.blocks > len(weights)
        or any(tensor.dtype != torch.float32 for tensor in weights.values())
    ):
        raise InputError(
            "LAT-003", f"its refinement layer does not fit the field; the file is damaged, {FIELD.again}."
        )
    # on "meta", so that a wrong width in the file does not allocate memory
    with torch.device("meta"):
        refiner = LatentRefiner(shape)
    refiner.load_state_dict(weights, assign=True)
    return refiner.requires_grad_(False)


def _counts(number: Any) -> bool:
    return type(number) is int and 1 <= number <= WIDEST


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether both are written as the same bytes."""
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits_a, bits_b = (t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(bits_a, bits_b)
