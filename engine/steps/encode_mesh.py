"""A splat that moves as an animated mesh does, through the variation-field VAE.

GVFDiffusion (Zhang et al., ICCV 2025), section 3.1: the encoder sees displacements of surface points, the decoder says how
every Gaussian changes. It shows what the VAE of a variation-field model can represent, without its diffusion model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..deform import PerFrame
from ..deform.mesh_config import AUTO, MeshConfig
from ..deform.mesh_targets import fitted, target_of, with_motion
from ..fields import as_record, number
from ..generation.mesh_encoding import MeshEncoding
from ..generation.variation import VariationModels
from ..io.gltf import Document, follow_mesh, open_document
from ..messages import Finished, Stream, progress_of
from ..scene import Gaussians, Scene4D
from .step import MESH_INPUTS, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config(MeshConfig):
    points: int = number(
        8192,
        64,
        100_000,
        "Surface points that the encoder sees. More is slower; the published model was trained with 8192.",
        label="surface points",
    )
    chunk: int = number(
        8192,
        64,
        1_000_000,
        "Gaussians that are decoded at once. Lower needs less memory.",
        label="decode chunk",
        advanced=True,
    )


def run(
    models: VariationModels,
    splat: Scene4D | list[Gaussians],
    mesh: Path | None = None,
    model: Document | None = None,
    config: Config = Config(),
) -> Stream:
    """Encode the motion of a mesh and decode it to changes of a splat's Gaussians.

    Args:
        models: The variation-field networks, of which the VAE is used.
        splat: A scene, of which the first frame is taken, or a list with one splat.
        mesh: A .glb or .gltf file with an animation.
        model: An opened glTF document instead.
        config: Which animation, and how the mesh is placed.

    Yields:
        Started, Progress per frame, and Finished with a `Scene4D`.

    Raises:
        InputError: The file, the splat or the model cannot be used, or the mesh lies elsewhere.

    Source:
        GVFDiffusion, section 3.1.
    """
    c = config
    target = target_of(splat, None if c.up == AUTO else c.up)
    document = model if model is not None else open_document(mesh or Path())
    note = f"{models.folder.path.name} on {models.device}: {len(target.gaussians)} Gaussians"
    animated = yield from follow_mesh(document, c.action, c.fps, c.hidden_names, 2, note)
    found = fitted(animated, target, c.fit, c.up, c.turn, c.pose)
    encoding = MeshEncoding(models, target.gaussians, target.up, found.mesh, found.pose, c.points, c.chunk)
    changes, said = yield from progress_of(encoding.changes(), len(animated.frames))
    scene = with_motion(target, PerFrame(animated.seconds, changes), animated.seconds)
    yield Finished(
        scene.with_history(
            "encode_mesh",
            config=as_record(c),
            mesh=document.name,
            action=animated.action,
            models=models.folder.path.name,
            weights=models.fingerprint(),
            note="\n".join(filter(None, (found.note, said))),
        )
    )


def summary(scene: Scene4D) -> str:
    """A line about the scene, and how the mesh was placed."""
    entry = scene.last_entry("encode_mesh") or {}
    return "\n".join(filter(None, (scene.summary(), str(entry.get("note", "")))))


STEP = Step(
    name="encode_mesh",
    node="EncodeMeshAnimation",
    label="Encode Mesh Animation",
    category="4dgs/generate",
    description="Makes a splat move as an animated mesh does through the autoencoder of a variation-field model (GVFDiffusion): "
    "position, size, rotation, color and opacity of every Gaussian in every frame.",
    search=("gvfdiffusion", "variation field", "vae", "glb", "gltf", "mesh animation"),
    config=Config,
    run=run,
    inputs=(
        Input(
            "models",
            Kind.VARIATION,
            "The variation-field networks, from Load Variation Models. Only the autoencoder is used.",
        ),
        *MESH_INPUTS,
    ),
    outputs=(
        Output(
            "scene", Kind.SCENE, "The splat as a scene with the mesh's motion as the model reconstructs it."
        ),
    ),
    verb="encode-mesh",
    has_device=False,
    note=summary,
    lowers=("points", "chunk"),
)
