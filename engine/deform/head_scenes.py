"""Scenes whose Gaussians are bound to a head: its parameters, and the same scene with another motion."""

from __future__ import annotations

from ..errors import InputError
from ..heads import HeadModel, HeadMotion
from ..scene import Scene4D
from .bound_mesh import BoundMesh
from .frozen_appearance import FrozenAppearance


def bound_mesh_of(scene: Scene4D, model: HeadModel | None = None) -> BoundMesh:
    """The scene's mesh.

    Raises:
        InputError: Its Gaussians are not bound to a mesh, or to one of another topology than `model`.
    """
    mesh = scene.deformation
    mesh = mesh.inner if isinstance(mesh, FrozenAppearance) else mesh
    if not isinstance(mesh, BoundMesh):
        raise InputError(
            "DEF-027",
            f"The scene's motion ('{scene.deformation.kind}') is not a head's. Train it with a head connected, or import "
            "a GaussianAvatars folder.",
        )
    if model is not None and (len(mesh.rest), len(mesh.faces)) != (len(model.template), len(model.faces)):
        raise InputError(
            "DEF-028",
            f"The scene's mesh has {len(mesh.rest)} vertices and {len(mesh.faces)} triangles, {model.name} has "
            f"{len(model.template)} and {len(model.faces)}; connect the head model that the scene was trained with.",
        )
    return mesh


def has_head(scene: Scene4D) -> bool:
    """Whether the scene's Gaussians are bound to a mesh."""
    mesh = scene.deformation
    return isinstance(mesh.inner if isinstance(mesh, FrozenAppearance) else mesh, BoundMesh)


def motion_of(scene: Scene4D, model: HeadModel) -> HeadMotion:
    """The head parameters that the scene carries. Raises InputError where it has none, or another model's."""
    mesh = bound_mesh_of(scene, model)
    try:
        return HeadMotion(times=mesh.seconds, **mesh.parameters)
    except TypeError as error:
        raise InputError(
            "DEF-029",
            "The scene's mesh carries no head parameters, so it cannot be posed anew. Train or import it with a head "
            "model connected.",
        ) from error


def with_motion(scene: Scene4D, model: HeadModel, motion: HeadMotion) -> Scene4D:
    """The same Gaussians on the head as `motion` moves it, at the motion's times."""
    mesh = bound_mesh_of(scene, model)
    parameters = {name: t for name, t in motion.tensors().items() if name != "times"}
    posed = mesh.with_(frames=model.posed(motion), seconds=motion.times, parameters=parameters)
    carrier = FrozenAppearance(posed) if isinstance(scene.deformation, FrozenAppearance) else posed
    return scene.with_(deformation=carrier, times=motion.times.double())
