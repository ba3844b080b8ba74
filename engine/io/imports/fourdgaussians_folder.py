"""A scene folder of hustvl/4DGaussians (4D-GS, Wu et al., CVPR 2024) as a Scene4D.

`<model>/cfg_args` and `<model>/point_cloud/iteration_K/{point_cloud.ply, deformation.pth}`; the highest K counts,
`coarse_iteration_K` is the static first stage and is ignored. Only cfg_args tells which heads are active: the weights of
all heads are always in the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...deform.hexplane import HEADS
from ...errors import InputError
from ...files.torch_weights import read_pickled_tensors
from ...geometry.boxes import gaussian_bounds
from ...scene import Scene4D
from ...scene.mending import mended
from ...scene.origins import coarse_note
from ...scene.rigs import UPS, ring_of_cameras
from ..ply import read_ply
from .cfg_args import read_cfg_args
from .fourdgaussians import field_from_state

SWITCHES = {"position": "no_dx", "scale": "no_ds", "rotation": "no_dr", "opacity": "no_do", "sh": "no_dshs"}
# bytes
LARGEST_WEIGHTS = 8 << 30


def is_fourdgaussians(folder: Path) -> bool:
    return folder.is_dir() and latest_iteration(folder) is not None


def import_fourdgaussians(
    folder: Path,
    step_name: str,
    heads: str = "auto",
    seconds: float = 1.0,
    moments: int = 60,
    up: str = "y down",
) -> Scene4D:
    """Import a scene trained with hustvl/4DGaussians. The folder has no cameras, so a ring of them is placed around it.

    Args:
        folder: The trained model's folder, which contains cfg_args and point_cloud.
        step_name: Name of the step for the scene's history.
        heads: Active heads: "auto" reads cfg_args; otherwise "all" or "position, scale, rotation".
        seconds: Duration of the scene; its time 0..1 becomes 0..seconds.
        moments: Number of frames, at least 2.
        up: Up axis, one of `UPS`.

    Returns:
        The scene.

    Raises:
        InputError: A file is missing, damaged or of an unsupported configuration.
    """
    found = latest_iteration(folder)
    if found is None:
        raise InputError(
            "IO-012",
            f"{folder.name} is not a 4DGaussians scene: point_cloud/iteration_…/point_cloud.ply is missing. Choose the folder "
            "that contains cfg_args and point_cloud.",
        )
    settings: dict[str, Any] = {}
    if (folder / "cfg_args").is_file():
        settings = read_cfg_args(folder / "cfg_args")
    elif heads == "auto":
        raise InputError(
            "IO-013",
            f"{folder.name}: cfg_args is missing, so the active heads of the deformation are unknown. Set heads to 'all' "
            "(DyNeRF, MultipleView) or 'position, scale, rotation' (other data sets).",
        )
    (gaussians,), note = mended([read_ply(found / "point_cloud.ply", as_stored=True)])
    gaussians = gaussians.with_(means=gaussians.means.float())
    note = "\n".join(filter(None, (note, coarse_note(gaussians.means))))
    weights = found / "deformation.pth"
    state = _load_state(weights)
    field = field_from_state(
        state,
        _heads(heads, settings),
        bool(settings.get("apply_rotation", False)),
        (0.0, seconds),
        source=weights.name,
    )
    if (
        settings.get("no_grid")
        or settings.get("static_mlp")
        or settings.get("empty_voxel")
        or settings.get("grid_pe")
    ):
        raise InputError(
            "IO-014",
            f"{folder.name} was trained with no_grid, static_mlp, empty_voxel or grid_pe, which are not supported; train it "
            "without them.",
        )
    # opacity of 0.1 or more
    opaque = gaussians.means[gaussians.logit_opacities > -2.2]
    bounds = gaussian_bounds(opaque if len(opaque) >= 10 else gaussians.means)
    background = torch.ones(3) if settings.get("white_background", True) else torch.zeros(3)
    times = torch.linspace(0, seconds, max(moments, 2), dtype=torch.float64)
    rig = ring_of_cameras(bounds, torch.tensor(UPS[up], dtype=torch.float64))
    scene = Scene4D(gaussians, field, times, rig, bounds, background)
    return scene.with_history(
        step_name,
        source=folder.name,
        iteration=found.name,
        gaussians=len(gaussians),
        heads=list(field.settings.heads),
        note=note,
    )


def latest_iteration(folder: Path) -> Path | None:
    """The folder of the highest fine iteration that contains a point cloud."""
    found: list[tuple[int, Path]] = []
    for path in (folder / "point_cloud").glob("iteration_*"):
        match = re.fullmatch(r"iteration_(\d{1,9})", path.name)
        if match and (path / "point_cloud.ply").is_file():
            found.append((int(match[1]), path))
    return max(found)[1] if found else None


def _heads(choice: str, settings: dict[str, Any]) -> tuple[str, ...]:
    if choice == "all":
        return tuple(HEADS)
    if choice != "auto":
        return ("position", "scale", "rotation")
    # the switches turn heads off; by default, the reference code leaves opacity and color unchanged
    defaults = {"no_do": True, "no_dshs": True}
    return tuple(
        head for head, switch in SWITCHES.items() if not settings.get(switch, defaults.get(switch, False))
    )


def _load_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            "IO-015",
            f"{path.parent.name}/{path.name} is missing, so the scene's deformation cannot be read; copy it there.",
        )
    if path.stat().st_size > LARGEST_WEIGHTS:
        raise InputError(
            "IO-016",
            f"{path.name} has {path.stat().st_size:,} bytes, more than any deformation ({LARGEST_WEIGHTS:,}); choose another "
            "file.",
        )
    return read_pickled_tensors(path, path.name)
