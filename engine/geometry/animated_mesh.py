"""A triangle mesh whose vertices move while its triangles stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AnimatedMesh:
    """T frames of V vertices and the F triangles between them.

    Args:
        rest: [V, 3] the mesh as it stands without its animation.
        frames: [T, V, 3] the mesh over time, in the same units.
        seconds: [T] float64, ascending, from 0.
        faces: [F, 3] long.
        colors: [V, 3] in 0..1, display-referred.
        action: The animation's name.
        name: The file's name, for messages.
    """

    rest: Tensor
    frames: Tensor
    seconds: Tensor
    faces: Tensor
    colors: Tensor
    action: str = ""
    name: str = ""

    def moved(self, matrix: Tensor) -> AnimatedMesh:
        """The mesh after an affine map [3, 4], at all times."""
        turn, shift = matrix[:, :3].to(self.rest), matrix[:, 3].to(self.rest)
        return replace(self, rest=self.rest @ turn.T + shift, frames=self.frames @ turn.T + shift)


def triangle_areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """Areas [F] of the triangles `faces` [F, 3] between `vertices` [V, 3]."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points that stay at their place on a mesh's triangles while it moves.

    Args:
        triangles: [P] long, the triangle of each point.
        weights: [P, 3] barycentric coordinates, ascending with the triangle's corners.
    """

    triangles: Tensor
    weights: Tensor

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """Positions [..., P, 3] on the mesh with `vertices` [..., V, 3]."""
        corners = vertices[..., faces[self.triangles], :]
        return (corners * self.weights[:, :, None].to(vertices)).sum(-2)


def sample_surface(vertices: Tensor, faces: Tensor, count: int, seed: int = 0) -> SurfaceSamples:
    """`count` points spread over a mesh by area; the same seed gives the same points.

    Triangles without area get no points.

    Args:
        vertices: [V, 3].
        faces: [F, 3] long.
        count: P.
        seed: Of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    heap = triangle_areas(vertices.cpu().double(), faces.cpu()).cumsum(0)
    # one point in each of P equal parts of the area: more even than independent points
    places = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    triangles = torch.searchsorted(heap, places * heap[-1], right=True).clamp(max=len(faces) - 1)
    u, v = torch.rand(2, count, generator=generator)
    root = u.sqrt()
    weights = torch.stack([1 - root, root * (1 - v), root * v], dim=-1)
    return SurfaceSamples(triangles.to(faces.device), weights.to(vertices.device))
