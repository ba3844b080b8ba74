"""A splat carried by a mesh that moves: bound to its triangles, or moved with the surface around each Gaussian."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry.animated_mesh import AnimatedMesh, sample_surface
from ..geometry.nearest_triangles import nearest_triangles
from ..geometry.surface_motion import NEIGHBORS, motion_weights
from ..heads import triangle_frames
from ..scene import Gaussians, rotations
from .bound_mesh import BoundMesh
from .per_frame import PerFrame

# surface points of mesh-guided interpolation (the paper's number)
POINTS = 8192
# a change of size below this is rounding
SAME_SIZE = 1e-4


def bind_to_triangles(gaussians: Gaussians, mesh: AnimatedMesh, pose: Tensor, reach: float) -> BoundMesh:
    """Each Gaussian follows its nearest triangle.

    Args:
        gaussians: N Gaussians as they stand at `pose`.
        mesh: The motion, in the Gaussians' coordinates.
        pose: [V, 3] the mesh where it matches the Gaussians.
        reach: Gaussians farther than this from the mesh stay where they are; 0 moves all.
    """
    binding, distances = nearest_triangles(gaussians.means, pose, mesh.faces)
    faces, frames = mesh.faces, mesh.frames
    if reach > 0 and bool((distances > reach).any()):
        # they are bound to a triangle that never moves
        corner = pose.mean(0) + reach * torch.eye(3)
        binding = torch.where(distances > reach, len(faces), binding)
        faces = torch.cat([faces, len(pose) + torch.arange(3)[None]])
        frames = torch.cat([frames, corner.expand(len(frames), 3, 3)], dim=1)
        pose = torch.cat([pose, corner])
    return BoundMesh(faces, pose, frames, mesh.seconds, binding)


def interpolate_motion(
    gaussians: Gaussians, mesh: AnimatedMesh, pose: Tensor, reach: float, neighbors: int = NEIGHBORS
) -> Generator[int, None, PerFrame]:
    """Each Gaussian moves with the nearest surface points, weighted by distance; yields the frames done.

    Changed: the paper adds displacements, and its network turns and resizes the Gaussians. Here each surface point carries
    the Gaussian as its triangle turns and grows, so that a rigid motion of the mesh is one of the splat.

    Args:
        gaussians: N Gaussians as they stand at `pose`.
        mesh: The motion, in the Gaussians' coordinates.
        pose: [V, 3] the mesh where it matches the Gaussians.
        reach: Gaussians farther than this from the mesh stay where they are; 0 moves all.
        neighbors: Surface points K that move a Gaussian.

    Source:
        GVFDiffusion (Zhang et al., ICCV 2025), section 3.1, equation 3.
    """
    # the pack also loads where scipy is missing
    from scipy.sparse import csr_matrix
    from scipy.spatial import KDTree

    samples = sample_surface(pose, mesh.faces, max(POINTS, neighbors))
    points = samples.points(pose, mesh.faces)
    distances, found = KDTree(points.numpy()).query(gaussians.means.numpy(), neighbors, workers=-1)
    distances = torch.from_numpy(distances).float().reshape(len(gaussians), -1)
    index = torch.from_numpy(found).long().reshape(len(gaussians), -1)
    weights = motion_weights(distances.square())
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
    if reach > 0:
        weights = torch.where(distances[:, :1] > reach, 0.0, weights)
    rows = np.repeat(np.arange(len(gaussians)), index.shape[1])
    mix = csr_matrix(
        (weights.flatten().numpy(), (rows, index.flatten().numpy())), (len(gaussians), len(points))
    )
    used = mesh.faces[samples.triangles]
    rest = triangle_frames(pose, used)
    first = rotations.normalise(gaussians.quats) * gaussians.quats.norm(dim=-1, keepdim=True)
    means, quats, sizes = [], [], []
    last = gaussians.quats
    for t, vertices in enumerate(mesh.frames):
        now = triangle_frames(vertices, used)
        turns = now.axes @ rest.axes.transpose(-1, -2)
        moved, turned, grown = _carried(
            gaussians,
            points,
            samples.points(vertices, mesh.faces),
            turns,
            now.sizes / rest.sizes,
            index,
            weights,
            mix,
        )
        turned = rotations.multiply(turned, first)
        # q and -q are the same rotation: take the sign nearest to the previous frame's
        last = turned * torch.where((turned * last).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        means.append(moved)
        quats.append(last - gaussians.quats)
        sizes.append(grown)
        yield t + 1
    changes = {"means": torch.stack(means), "quats": torch.stack(quats)}
    grown = torch.stack(sizes)
    if bool((grown.abs() > SAME_SIZE).any()):
        changes["log_scales"] = grown[..., None].expand(-1, -1, 3).contiguous()
    return PerFrame(mesh.seconds, changes)


def _carried(
    gaussians: Gaussians,
    points: Tensor,
    moved_points: Tensor,
    turns: Tensor,
    growth: Tensor,
    index: Tensor,
    weights: Tensor,
    mix: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shift [N, 3], turn [N, 4] and change of log size [N] of each Gaussian.

    Args:
        gaussians: N Gaussians.
        points: [P, 3] surface points where the mesh matches them.
        moved_points: [P, 3] the same at a time.
        turns: [P, 3, 3] rotations of their triangles since then.
        growth: [P] factors of the triangles' sizes.
        index: [N, K] points that move each Gaussian.
        weights: [N, K], which sum to 1, or to 0 for what stays.
        mix: The weights as a sparse matrix [N, P].
    """
    matrices = growth[:, None, None] * turns
    shifts = moved_points - (matrices @ points[..., None])[..., 0]
    columns = torch.cat([matrices.flatten(1), shifts, growth.log()[:, None]], dim=1)
    # one sparse product instead of gathering nine numbers for each of K points
    blended = torch.from_numpy(mix @ columns.numpy())
    goal = (blended[:, :9].unflatten(1, (3, 3)) * gaussians.means[:, None]).sum(-1) + blended[:, 9:12]
    is_moved = weights[:, 0] > 0
    shift = torch.where(is_moved[:, None], goal - gaussians.means, 0.0)
    quats = rotations.matrices_to_quats(turns)[index]
    # q and -q are the same rotation: the nearest point's sign counts
    signs = torch.where((quats * quats[:, :1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    turn = (weights[..., None] * signs * quats).sum(1)
    turn = torch.where(is_moved[:, None], turn, turn.new_tensor([1.0, 0, 0, 0]))
    return shift, rotations.normalise(turn), blended[:, 12]
