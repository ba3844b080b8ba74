"""Gaussians bound to the triangles of a mesh that moves (GaussianAvatars, CVPR 2024, section 3.2).

A triangle (v0, v1, v2) has its centroid as origin, the axes a0 = unit(v1 − v0), a1 = unit(a0 × (v2 − v0)) (its normal) and
a2 = a0 × a1, and the size k = (|v1 − v0| + |a2 · (v2 − v0)|) / 2. Bound Gaussians are stored relative to that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..scene import Gaussians, rotations

SMALLEST = 1e-12  # meters; keeps the axes of a degenerate triangle finite


class TriangleFrames(NamedTuple):
    """Origin, orientation and size of F triangles."""

    centers: Tensor  # [..., F, 3] centroids
    axes: Tensor  # [..., F, 3, 3] the axes as columns: local → world
    sizes: Tensor  # [..., F] in the mesh's units

    def __getitem__(self, index: object) -> TriangleFrames:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The frames of one mesh out of a batch, or of the triangles at `index`."""
        return TriangleFrames(*(tensor[index] for tensor in self.tensors()))  # pyright: ignore[reportArgumentType]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.centers, self.axes, self.sizes


def triangle_frames(vertices: Tensor, faces: Tensor) -> TriangleFrames:
    """The frames of a mesh's triangles; differentiable.

    Args:
        vertices: [..., V, 3].
        faces: [F, 3] long.

    Source: GaussianAvatars (Qian et al., CVPR 2024), section 3.2.
    """
    v0, v1, v2 = (vertices[..., faces[:, corner], :] for corner in range(3))
    base, side = v1 - v0, v2 - v0
    along = torch.nn.functional.normalize(base, dim=-1, eps=SMALLEST)
    normal = torch.nn.functional.normalize(torch.linalg.cross(along, side), dim=-1, eps=SMALLEST)
    across = torch.linalg.cross(along, normal)
    sizes = (base.norm(dim=-1) + (across * side).sum(-1).abs()) / 2
    axes = torch.stack([along, normal, across], dim=-1)
    return TriangleFrames((v0 + v1 + v2) / 3, axes, sizes.clamp(min=SMALLEST))


def to_world(local: Gaussians, frames: TriangleFrames, binding: Tensor) -> Gaussians:
    """Triangle-local Gaussians [N] in world space: μ' = k·R·μ + c, r' = q(R)⊗r, s' = k·s. SH is not rotated.

    Args:
        local: Positions in triangle sizes, log scales relative to the triangle's size.
        frames: Of one mesh with F triangles.
        binding: [N] long, each Gaussian's triangle.
    """
    turns = rotations.matrices_to_quats(frames.axes)[binding]
    sizes = frames.sizes[binding]
    turned = (frames.axes[binding] @ local.means[..., None])[..., 0]
    return local.with_(
        means=sizes[:, None] * turned + frames.centers[binding],
        quats=rotations.multiply(turns, rotations.normalise(local.quats)),
        log_scales=local.log_scales + sizes.log()[:, None],
    )


def to_local(world: Gaussians, frames: TriangleFrames, binding: Tensor) -> Gaussians:
    """The inverse of `to_world`."""
    turns = rotations.matrices_to_quats(frames.axes)[binding]
    back = rotations.conjugate(turns)
    sizes = frames.sizes[binding]
    offset = (world.means - frames.centers[binding]) / sizes[:, None]
    return world.with_(
        means=(frames.axes[binding].transpose(-1, -2) @ offset[..., None])[..., 0],
        quats=rotations.multiply(back, rotations.normalise(world.quats)),
        log_scales=world.log_scales - sizes.log()[:, None],
    )
