"""Avatars of GaussianAvatars (Qian et al., CVPR 2024): a folder to a Scene4D and back.

`<avatar>/point_cloud/iteration_K/{point_cloud.ply, flame_param.npz}`, `cfg_args` and `cameras.json`; the highest K counts.
The .ply stores Gaussians relative to triangles of a head mesh, of which the folder holds the parameters alone: a head model
with the same triangles is given with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...deform import BoundMesh, FrozenAppearance
from ...errors import InputError
from ...files.atomic import make_folder, write_atomically
from ...files.npzfile import write_arrays
from ...files.paths import printable, require_file
from ...files.ply_header import read_header
from ...geometry.boxes import gaussian_bounds
from ...heads import Head, HeadModel, to_local, to_world, triangle_frames
from ...heads.motion import USUAL_HEAD_FPS
from ...scene import Scene4D
from ...scene.rigs import UPS, ring_of_cameras
from ..heads import read_timed_motion
from ..ply import BINDING, read_bound_ply, write_ply
from .avatar_cameras import CAMERAS, read_avatar_cameras, write_avatar_cameras
from .cfg_args import read_cfg_args
from .fourdgaussians_folder import latest_iteration

PLY, PARAMETERS = "point_cloud.ply", "flame_param.npz"
ITERATION = 600_000  # as the reference code trains
BOUNDED = 8  # frames from which the bounds are taken


def is_gaussian_avatar(folder: Path) -> bool:
    """Whether `folder` is the output of GaussianAvatars."""
    found = latest_iteration(folder) if folder.is_dir() else None
    if found is None:
        return False
    try:
        header = read_header(found / PLY, PLY)
    except InputError:
        return False
    return any(each.name == BINDING for each in header.vertices.properties)


def import_gaussian_avatar(
    folder: Path, model: HeadModel, step_name: str, frames_per_second: float = 0.0
) -> Scene4D:
    """The avatar in `folder` as a scene that moves as its own parameters say.

    The canonical Gaussians are those of the rest pose (neutral, the jaw open by 0.3 rad) in world units.

    Args:
        folder: The folder that contains `point_cloud`.
        model: The head model that the avatar was trained with.
        step_name: The step that the scene's history names.
        frames_per_second: Of the parameters; the folder stores none. 0 assumes 25 and notes that in the scene's history.

    Raises:
        InputError: A file is missing or damaged, or the head model has other triangles or coefficients.
    """
    found = latest_iteration(folder)
    if found is None:
        raise InputError(
            "IO-055",
            f"{printable(folder.name)} is not an avatar: point_cloud/iteration_…/point_cloud.ply is missing. Choose the "
            "folder that contains point_cloud.",
        )
    local, binding = read_bound_ply(require_file(found / PLY, folder, "export the avatar again"))
    if len(local) == 0:
        raise InputError(
            "IO-056", f"{PLY} of {printable(folder.name)} contains no Gaussians; train it again."
        )
    path = require_file(found / PARAMETERS, folder, "copy it from the training's output")
    motion, assumed = read_timed_motion(path, frames_per_second)
    head = Head(model, motion, printable(folder.name))
    _check_binding(binding, head)
    settings = read_cfg_args(folder / "cfg_args") if (folder / "cfg_args").is_file() else {}
    rest = head.vertices(head.motion.canonical())[0]
    mesh = BoundMesh(
        faces=model.faces,
        rest=rest,
        frames=head.posed,
        seconds=head.motion.times,
        binding=binding,
        parameters={name: t for name, t in head.motion.tensors().items() if name != "times"},
        model=model.name,
    )
    canonical = to_world(local, triangle_frames(rest, model.faces), binding)
    bounds = _bounds(canonical.means, mesh)
    rig = read_avatar_cameras(folder) if (folder / CAMERAS).is_file() else None
    white = settings.get("white_background", True)
    scene = Scene4D(
        canonical=canonical,
        deformation=mesh,
        times=head.motion.times,
        rig=rig or ring_of_cameras(bounds, torch.tensor(UPS["y up"], dtype=torch.float64)),
        bounds=bounds,
        background=torch.ones(3) if white else torch.zeros(3),
    )
    return scene.with_history(
        step_name,
        source=printable(folder.name),
        iteration=found.name,
        gaussians=len(canonical),
        head=model.name,
        fps=frames_per_second or USUAL_HEAD_FPS,
        **({"note": assumed} if assumed else {}),
    )


def _check_binding(binding: Tensor, head: Head) -> None:
    faces = len(head.model.faces)
    if int(binding.max()) >= faces:
        raise InputError(
            "IO-057",
            f"{head.name} is bound to triangles up to {int(binding.max())}, {head.model.name} has {faces} triangles. Select "
            "the head model that the avatar was trained with.",
        )


def _bounds(means: Tensor, mesh: BoundMesh) -> Tensor:
    """The box of the avatar, wherever its head moves."""
    step = max(1, len(mesh.frames) // BOUNDED)
    boxes = [gaussian_bounds(means), *(gaussian_bounds(vertices) for vertices in mesh.frames[::step])]
    stacked = torch.stack(boxes)
    return torch.stack([stacked[:, 0].amin(0), stacked[:, 1].amax(0)])


def export_gaussian_avatar(scene: Scene4D, folder: Path, iteration: int = ITERATION) -> Path:
    """Write an avatar as GaussianAvatars stores it.

    Args:
        scene: A scene whose Gaussians are bound to a head with parameters.
        folder: The folder that will contain `point_cloud`; files in it are replaced.
        iteration: The number in the folder's name.

    Returns:
        The folder.

    Raises:
        InputError: The scene is not bound to a head, or a file cannot be written.
    """
    deformation = scene.deformation
    # the bound mesh leaves appearance alone, so that freezing it changes nothing
    mesh = deformation.inner if isinstance(deformation, FrozenAppearance) else deformation
    if not isinstance(mesh, BoundMesh) or not mesh.parameters:
        what = (
            "is bound to a mesh without head parameters"
            if isinstance(mesh, BoundMesh)
            else "is not bound to a head"
        )
        raise InputError(
            "IO-058",
            f"The scene {what} (motion: {deformation.kind}), so it cannot be exported as an avatar. Export it as a .ply "
            "per frame instead.",
        )
    made = folder / "point_cloud" / f"iteration_{iteration}"
    make_folder(made)
    local = to_local(scene.canonical, mesh.rest_frames, mesh.binding)
    write_ply(local, made / PLY, mesh.binding)
    arrays: dict[str, Any] = {n: t.detach().cpu().float().numpy() for n, t in mesh.parameters.items()}
    vertices = len(mesh.rest)
    offset = arrays.get("static_offset")
    arrays["static_offset"] = np.zeros((1, vertices, 3), np.float32) if offset is None else offset[None]
    # the reference code asks for it and never uses it
    arrays["dynamic_offset"] = np.zeros((len(mesh.seconds), vertices, 3), np.float32)
    write_arrays(made / PARAMETERS, arrays)
    write_avatar_cameras(scene.rig, folder)
    white = bool((scene.background > 0.5).all())
    text = f"Namespace(sh_degree={local.sh_degree}, white_background={white}, bind_to_mesh=True)"
    with write_atomically(folder / "cfg_args") as partial:
        partial.write_text(text, "utf-8")
    return folder


def files_of(folder: Path, iteration: int = ITERATION) -> list[Path]:
    """The files that `export_gaussian_avatar` writes."""
    made = folder / "point_cloud" / f"iteration_{iteration}"
    return [made / PLY, made / PARAMETERS, folder / CAMERAS, folder / "cfg_args"]
