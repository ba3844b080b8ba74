"""A scene as one .safetensors file: exact tensors, and a JSON description of the rest (`files.safetensors_format`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..deform import KINDS
from ..errors import InputError
from ..files.safetensors_format import SafetensorsFormat
from ..files.safetensors_header import read_header
from ..finite import is_finite
from ..scene import Cameras, Deformation, Gaussians, Scene4D
from ..scene.cameras import AT_ZERO, origin_from

SCENE = SafetensorsFormat(
    "gs4d-scene", 1, "scene", "4D scene", "this pack saved as a 4D scene", "export it again"
)
# bytes; a scene with a longer header opens, but `is_scene_file` says no
LISTED_HEADER = 16 << 20
# types of Gaussians and cameras; every other one is a damaged file's
EXACT = (torch.float32, torch.float64)
GAUSSIANS = ("means", "log_scales", "quats", "logit_opacities", "sh")


def save_scene(scene: Scene4D, path: Path | str) -> Path:
    """Save a scene, atomically.

    Args:
        scene: The scene; its tensors are stored exactly.
        path: The .safetensors file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: A tensor contains NaN or infinite values, or the file cannot be written.

    Example:
        >>> save_scene(scene, "scene.safetensors")
        >>> scene = load_scene("scene.safetensors")
    """
    path = Path(path)
    SCENE.write(path, scene_tensors(scene), describe_scene(scene))
    return path


def load_scene(path: Path | str) -> Scene4D:
    """Load a scene that `save_scene` wrote.

    Args:
        path: A .safetensors file.

    Returns:
        The scene, on the CPU.

    Raises:
        InputError: The file is missing, cut short, damaged, not a scene, of a newer version, or contains NaN.
    """
    path = Path(path)
    tensors, about = SCENE.read(path)
    with SCENE.assembling(path):
        return scene_of(tensors, about, SCENE)


def is_scene_file(path: Path) -> bool:
    """Whether a .safetensors file says in its header that it holds a scene; the tensors are not read."""
    try:
        header = read_header(path, largest=LISTED_HEADER, must_be_whole=False)
    except InputError:
        return False
    return header.metadata.get("format", "").startswith("gs4d-scene")


def scene_tensors(scene: Scene4D) -> dict[str, Tensor]:
    """All of a scene's tensors by name."""
    tensors = {f"gaussians.{name}": t for name, t in scene.canonical.tensors().items()}
    tensors |= {f"deformation.{name}": t for name, t in scene.deformation.tensors().items()}
    tensors |= {"times": scene.times, "bounds": scene.bounds, "background": scene.background}
    return tensors | {"rig.world_to_camera": scene.rig.world_to_camera, "rig.K": scene.rig.K}


def describe_scene(scene: Scene4D) -> dict[str, Any]:
    """Everything of a scene that is not a tensor, as JSON values."""
    rig = {"names": list(scene.rig.names), "sizes": [list(size) for size in scene.rig.sizes]}
    # absent where it is zero, so that other scenes keep their bytes
    origin = {} if scene.rig.origin == AT_ZERO else {"origin": list(scene.rig.origin)}
    return {
        "deformation": {"kind": scene.deformation.kind, "config": scene.deformation.config()},
        "rig": rig | origin,
        "history": list(scene.history),
    }


def scene_of(tensors: dict[str, Tensor], about: dict[str, Any], kind: SafetensorsFormat) -> Scene4D:
    """The scene from the results of `scene_tensors` and `describe_scene`, read from a file of `kind`.

    Raises InputError if a tensor is missing or of another shape or type; call it inside `kind.assembling`.
    """
    tensors = {name: _single(name, tensor, kind) for name, tensor in tensors.items()}
    canonical = _canonical(tensors, kind)
    deformation = _deformation(tensors, about["deformation"])
    rig = _rig(tensors, about["rig"], kind)
    times = kind.tensor(tensors, "times", (None,), torch.float64)
    if len(times) == 0 or bool((times.diff() <= 0).any()):
        raise InputError(
            "IO-024", f"its {len(times)} times are not in ascending order; the file is damaged, {kind.again}."
        )
    return Scene4D(
        canonical=canonical,
        deformation=deformation,
        times=times,
        rig=rig,
        bounds=kind.tensor(tensors, "bounds", (2, 3), torch.float64),
        background=kind.tensor(tensors, "background", (3,), torch.float32),
        history=tuple(dict(entry) for entry in about.get("history", ())),
    )


def _single(name: str, tensor: Tensor, kind: SafetensorsFormat) -> Tensor:
    """A tensor of Gaussians or of their motion in float32, in which both are computed: types that differ cannot be mixed."""
    is_computed = name.startswith(("gaussians.", "deformation.")) and not name.endswith("seconds")
    if not is_computed or tensor.dtype != torch.float64:
        return tensor
    single = tensor.float()
    if not is_finite(single):
        raise InputError("IO-088", f"'{name}' has numbers beyond the range of float32; {kind.again}.")
    return single


def _canonical(tensors: dict[str, Tensor], kind: SafetensorsFormat) -> Gaussians:
    raw = {key: tensors[f"gaussians.{key}"] for key in GAUSSIANS if f"gaussians.{key}" in tensors}
    missing = [key for key in GAUSSIANS if key not in raw or raw[key].dtype not in EXACT]
    if missing:
        raise InputError(
            "IO-025",
            f"the tensors {', '.join(missing)} of the Gaussians are missing or not numbers; {kind.again}.",
        )
    return Gaussians(**raw)


def _deformation(tensors: dict[str, Tensor], about: dict[str, Any]) -> Deformation:
    motion = about["kind"]
    if motion not in KINDS:
        raise InputError(
            "IO-026",
            f"its deformation is of the kind '{str(motion)[:40]}', which is not one of {', '.join(KINDS)}; update the pack.",
        )
    prefix = "deformation."
    parts = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    return KINDS[motion].from_parts(dict(about["config"]), parts)


def _rig(tensors: dict[str, Tensor], about: dict[str, Any], kind: SafetensorsFormat) -> Cameras:
    sizes = tuple((int(w), int(h)) for w, h in about["sizes"])
    if any(not 0 < side <= 1 << 20 for size in sizes for side in size):
        raise InputError(
            "IO-027", f"a camera's image size is not between 1 and {1 << 20} pixels; {kind.again}."
        )

    def take(name: str, *shape: int) -> Tensor:
        found = tensors[name].dtype
        return kind.tensor(tensors, name, (len(sizes), *shape), found if found in EXACT else torch.float64)

    return Cameras(
        take("rig.world_to_camera", 4, 4),
        take("rig.K", 3, 3),
        sizes,
        tuple(str(n) for n in about["names"]),
        origin_from(about.get("origin")),
    )
