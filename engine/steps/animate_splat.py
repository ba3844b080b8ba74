"""A splat that moves as an animated mesh does: bound to its triangles, or carried by mesh-guided interpolation.

The first is the binding of GaussianAvatars (CVPR 2024) to any mesh, the second that of GVFDiffusion (ICCV 2025), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..deform.mesh_config import AUTO, MeshConfig
from ..deform.mesh_motion import bind_to_triangles, interpolate_motion
from ..deform.mesh_targets import fitted, target_of, with_motion
from ..deform.moments import mending_note
from ..fields import as_record, choice, number
from ..io.gltf import Document, follow_mesh, open_document
from ..messages import Finished, Stream, progress_of
from ..scene import Deformation, Gaussians, Scene4D
from .step import MESH_INPUTS, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config(MeshConfig):
    method: str = choice(
        "triangles",
        ("triangles", "interpolation"),
        "triangles binds each Gaussian to its nearest triangle: small files, sharp joints. interpolation blends the motion "
        "of the surface around it: smoother joints, larger files.",
    )
    reach: float = number(
        0.2,
        0.0,
        10.0,
        "Gaussians farther than this from the mesh stay still, as a share of its diagonal. Larger lets loose parts follow; 0 "
        "moves everything.",
        0.01,
    )
    neighbors: int = number(
        8,
        1,
        64,
        "Surface points that move a Gaussian with interpolation. More is smoother; typical 8.",
        advanced=True,
    )


def run(
    splat: Scene4D | list[Gaussians],
    mesh: Path | None = None,
    model: Document | None = None,
    config: Config = Config(),
) -> Stream:
    """Make a splat move as an animated mesh does.

    Args:
        splat: A scene, of which the first frame is taken, or a list with one splat.
        mesh: A .glb or .gltf file with an animation.
        model: An opened glTF document instead.
        config: Which animation, and how the mesh carries the splat.

    Yields:
        Started, Progress, and Finished with a `Scene4D`.

    Raises:
        InputError: The file cannot be read or has no such animation, the splat has no Gaussians or invalid values, or the
            mesh lies elsewhere.

    Example:
        scene = result(run([read_ply("toy.ply")], Path("toy.glb"), config=Config(action="Dance")))
    """
    c = config
    target = target_of(splat, None if c.up == AUTO else c.up)
    document = model if model is not None else open_document(mesh or Path())
    is_blended = c.method == "interpolation"
    note = f"animating {len(target.gaussians)} Gaussians with {document.name}"
    animated = yield from follow_mesh(document, c.action, c.fps, c.hidden_names, 2 if is_blended else 1, note)
    found = fitted(animated, target, c.fit, c.up, c.turn, c.pose)
    reach, frames = c.reach * found.diagonal, len(animated.frames)
    deformation: Deformation
    if is_blended:
        moving = interpolate_motion(target.gaussians, found.mesh, found.pose, reach, c.neighbors)
        deformation = yield from progress_of(moving, frames)
    else:
        deformation = bind_to_triangles(target.gaussians, found.mesh, found.pose, reach)
    scene = with_motion(target, deformation, animated.seconds)
    yield Finished(
        scene.with_history(
            "animate_splat",
            config=as_record(c),
            mesh=document.name,
            action=animated.action,
            note=found.note,
        )
    )


def summary(scene: Scene4D) -> str:
    """A line about the scene, and how the mesh was placed."""
    entry = scene.last_entry("animate_splat") or {}
    return "\n".join(filter(None, (scene.summary(), str(entry.get("note", "")), mending_note(scene))))


STEP = Step(
    name="animate_splat",
    node="AnimateSplatWithMesh",
    label="Animate Splat with Mesh",
    category="4dgs/generate",
    description="Makes a splat move as an animated GLB does: bound to the mesh's triangles or carried by the surface around "
    "each Gaussian.",
    search=("glb", "gltf", "mixamo", "rig", "skeleton", "animation", "fbx", "kimodo", "sam 3d body"),
    config=Config,
    run=run,
    order="action method fps fit up turn pose reach hidden neighbors",
    inputs=MESH_INPUTS,
    outputs=(Output("scene", Kind.SCENE, "The splat as a scene that moves with the mesh."),),
    verb="animate-splat",
    has_device=False,
    note=summary,
)
