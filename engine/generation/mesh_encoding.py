"""The motion of a mesh through the variation-field VAE: encoded at anchors on a splat, decoded to changes of its Gaussians.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.1. Changed: the mesh may match the splat in any pose instead of the
first frame, which displacements are then measured against.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends import explains_memory
from ..errors import InputError
from ..geometry.animated_mesh import AnimatedMesh, sample_surface
from ..geometry.placement import to_z_up
from ..scene import Gaussians
from .model_space import ModelSpace
from .variation import FRAMES_AT_ONCE, MOST_CHANGES, VariationModels


@dataclass(frozen=True, eq=False)
class MeshEncoding:
    """A splat, and the mesh that moves with it.

    Args:
        models: The variation-field networks; the VAE alone is used.
        gaussians: N Gaussians as they stand at `pose`.
        up: Their up axis.
        mesh: The motion, in the Gaussians' coordinates.
        pose: [V, 3] the mesh where it matches the Gaussians.
        points: Surface points that the encoder sees.
        chunk: Gaussians that are decoded at once.
    """

    models: VariationModels
    gaussians: Gaussians
    up: str
    mesh: AnimatedMesh
    pose: Tensor
    points: int
    chunk: int

    @torch.no_grad()
    def changes(self) -> Generator[int, None, tuple[dict[str, Tensor], str]]:
        """Encode and decode; yields the frames done, returns changes for a `PerFrame` deformation and a note.

        Raises:
            InputError: The splat has too few Gaussians for the model or too many for so many frames, the network returned NaN,
                or memory ran out.
        """
        frames, count = self.mesh.frames, len(self.gaussians)
        if count * len(frames) > MOST_CHANGES:
            raise InputError(
                "GEN-050",
                f"{count:,} Gaussians in {len(frames)} frames are more than this machine should hold; lower the frame rate to at "
                f"most {MOST_CHANGES // count} frames, or use the method triangles of Animate Splat with Mesh.",
            )
        device = self.models.device
        space = ModelSpace.of(self.gaussians, self.up, self.models.config.canonical_sides)
        turn, shift = self._to_model(space)
        samples = sample_surface(self.pose, self.mesh.faces, self.points)
        first = samples.points(self.pose, self.mesh.faces)
        points = (first @ turn.T + shift)[None].to(device)
        vectors = space.raw.vector().float().to(device)
        vae = self.models.folder.vae(device)
        parts: list[dict[str, Tensor]] = []
        advice = f"Lower 'decode chunk' below {self.chunk:,}, or 'surface points' below {self.points:,}."
        where = device if device.type == "cuda" else None
        with explains_memory("encoding the mesh", where, advice):
            for some in frames.split(FRAMES_AT_ONCE):
                shifts = (samples.points(some, self.mesh.faces) - first) @ turn.T
                posterior = vae.encode(points, shifts[None].to(device), [vectors])
                deltas = vae.decode(posterior.mean, vectors[None], self.chunk)[0].float().cpu()
                if not bool(torch.isfinite(deltas).all()):
                    raise InputError(
                        "GEN-051",
                        "The variation-field VAE returned NaN or infinite values; download its weights again, or run it on the "
                        "CPU.",
                    )
                parts.append(space.changes(deltas))
                yield sum(len(part["means"]) for part in parts)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, space.note

    def _to_model(self, space: ModelSpace) -> tuple[Tensor, Tensor]:
        """Turn with scale [3, 3], and shift [3], from the splat's coordinates to the model's."""
        turn = space.scale * to_z_up(self.up)
        shift = (space.raw.means.double() - self.gaussians.means.double() @ turn.T).mean(0)
        return turn.float(), shift.float()
