"""Masks of a head's parts, drawn from the mesh that its Gaussians are bound to: exact, without a segmentation model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..deform.head_scenes import bound_mesh_of
from ..errors import InputError
from ..heads import HeadModel
from ..render.mesh import visible_faces
from ..scene import Cameras, Scene4D, Selection
from .edges import dilated

# part → names of vertex regions, FLAME's and those of the bundled head; a model lacks some of them
PARTS: dict[str, tuple[str, ...]] = {
    "eyes": ("left_eyeball", "right_eyeball"),
    "eye area": ("left_eye_region", "right_eye_region", "left_eyeball", "right_eyeball"),
    "left eye": ("left_eyeball",),
    "right eye": ("right_eyeball",),
    "irises": ("left_iris", "right_iris"),
    "mouth": ("lips", "mouth_interior", "teeth"),
    "lips": ("lips",),
    "mouth interior": ("mouth_interior",),
    "teeth": ("teeth",),
    "brows": ("left_brow", "right_brow"),
    "skin": ("face", "neck", "left_ear", "right_ear"),
    "hair": ("scalp",),
    "expression": ("left_eyeball", "right_eyeball", "lips", "mouth_interior", "teeth"),
}
# what lies inside a part's outline but is another part
WITHOUT: dict[str, tuple[str, ...]] = {
    "skin": ("lips", "mouth_interior", "teeth", "left_eyeball", "right_eyeball", "left_brow", "right_brow"),
    "eye area": (),
    "lips": ("mouth_interior", "teeth"),
}
NAMES = tuple(PARTS)


def has_part(model: HeadModel, part: str) -> bool:
    """Whether the model names a region of a part."""
    return any(name in model.regions for name in PARTS[part])


def part_faces(model: HeadModel, part: str) -> Tensor:
    """[F] bool: the model's triangles that make up a part. Raises InputError where the model names no such region."""
    if part not in PARTS:
        raise InputError("MSK-004", f"'{part}' is not a part of a head; choose one of {', '.join(NAMES)}.")
    if not has_part(model, part):
        listed = ", ".join(sorted(model.regions)) or "none"
        raise InputError(
            "MSK-005",
            f"{model.name} does not say where '{part}' is (its regions: {listed}). Put the model's region masks "
            "(FLAME_masks.pkl or head_masks.npz) beside it.",
        )
    faces = model.face_region(*(name for name in PARTS[part] if name in model.regions))
    for name in WITHOUT.get(part, ()):
        if name in model.regions:
            faces &= ~model.face_region(name)
    return faces


def draw_part(
    scene: Scene4D, model: HeadModel, part: str, cameras: Cameras, seconds: Sequence[float], grow: int = 0
) -> Tensor:
    """Where a part is visible: masks [F, H, W] of 0 and 1 of F cameras of one size at F times.

    Args:
        grow: Pixels by which masks are dilated; negative erodes them.
    """
    return dilated(draw_parts(scene, model, (part,), cameras, seconds)[0], grow)


def draw_parts(
    scene: Scene4D, model: HeadModel, parts: Sequence[str], cameras: Cameras, seconds: Sequence[float]
) -> Tensor:
    """Where each of P parts is visible: masks [P, F, H, W] of 0 and 1 of F cameras of one size at F times."""
    mesh = bound_mesh_of(scene, model)
    inside = torch.stack([part_faces(model, part) for part in parts])
    masks: list[Tensor] = []
    for index, now in enumerate(seconds):
        found = visible_faces(mesh.vertices_at(now), mesh.faces, cameras, index)
        masks.append(inside[:, found.clamp(min=0)] & (found >= 0))
    return torch.stack(masks, dim=1).float()


def select_part(scene: Scene4D, model: HeadModel, part: str) -> Selection:
    """The Gaussians that are bound to a part's triangles: weights [N] of 0 and 1."""
    return Selection(part_faces(model, part)[bound_mesh_of(scene, model).binding.cpu()].float())
