"""Rigs: a triangle mesh on a tree of joints, how it moves, and points on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.scene import rotations


@dataclass(frozen=True, eq=False)
class Rig:
    """A mesh at rest, z up, with joints in an order in which parents precede their children.

    Args:
        vertices: [V, 3].
        faces: Vertex indices [F, 3].
        weights: Skinning weights [V, J], rows sum to 1.
        joints: Positions at rest [J, 3]; joint 0 is the root.
        parents: Parent of each joint, -1 for the root.
        amplitudes: Largest typical rotation about each world axis at rest, in radians [J, 3].
        phases: Of each joint in a gait, in cycles [J].
        breathes: Joints whose part may grow and shrink.
    """

    vertices: Tensor
    faces: Tensor
    weights: Tensor
    joints: Tensor
    parents: tuple[int, ...]
    amplitudes: Tensor
    phases: Tensor
    breathes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Motion:
    """T frames: rotations [T, J, 3] as axis-angle, sizes of parts [T, J], shifts of the root [T, 3]."""

    turns: Tensor
    sizes: Tensor
    shifts: Tensor


@dataclass(frozen=True, eq=False)
class Posed:
    """Transforms x → A x + b of each joint: A [T, J, 3, 3], b [T, J, 3], and A's rotation and size apart."""

    linear: Tensor
    offsets: Tensor
    turns: Tensor
    sizes: Tensor

    def positions(self, points: Tensor, weights: Tensor) -> Tensor:
        """Points at rest [P, 3] in every frame [T, P, 3] (linear blend skinning)."""
        linear = torch.einsum("pj,tjab->tpab", weights, self.linear)
        return torch.einsum("tpab,pb->tpa", linear, points) + torch.einsum(
            "pj,tja->tpa", weights, self.offsets
        )

    def quats(self, quats: Tensor, weights: Tensor) -> Tensor:
        """Orientations at rest [P, 4] in every frame [T, P, 4]: those of the blended rotation, of the previous one's sign."""
        blended = torch.einsum("pj,tjab->tpab", weights, self.turns)
        # of a blend that is no rotation, the quaternion of its largest part
        turned = F.normalize(rotations.matrices_to_quats(blended), dim=-1)
        turned = rotations.multiply(turned, quats.expand(len(blended), -1, -1))
        sign = torch.where((turned * turned[:1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        return turned * sign

    def growth(self, weights: Tensor) -> Tensor:
        """Size of each point's surroundings against rest [T, P]."""
        return self.sizes @ weights.T


def posed(rig: Rig, motion: Motion) -> Posed:
    """Forward kinematics: children inherit turns and positions, not sizes."""
    local = rotations.axis_angles_to_matrices(motion.turns)
    turns: list[Tensor] = []
    linear: list[Tensor] = []
    offsets: list[Tensor] = []
    for j, parent in enumerate(rig.parents):
        at = rig.joints[j]
        if parent < 0:
            turn, place = local[:, j], at + motion.shifts
        else:
            turn = turns[parent] @ local[:, j]
            place = linear[parent] @ at + offsets[parent]
        scaled = turn * motion.sizes[:, j, None, None]
        turns.append(turn)
        linear.append(scaled)
        offsets.append(place - scaled @ at)
    return Posed(torch.stack(linear, 1), torch.stack(offsets, 1), torch.stack(turns, 1), motion.sizes)


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """P points on a rig at rest: positions and normals [P, 3], weights [P, J]; the area [] of the whole surface."""

    positions: Tensor
    normals: Tensor
    weights: Tensor
    area: Tensor


@dataclass(frozen=True, eq=False)
class Moving:
    """P points in T frames: positions [T, P, 3], orientations [T, P, 4], sizes [T, P], and the part of each point [P]."""

    positions: Tensor
    quats: Tensor
    sizes: Tensor
    part: Tensor


def sample(rig: Rig, count: int, generator: torch.Generator) -> SurfacePoints:
    """Points spread evenly at random over the surface."""
    corners = rig.vertices[rig.faces]
    crossed = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = crossed.norm(dim=-1) / 2
    # stratified along the list of faces: more even than independent draws
    steps = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    face = torch.searchsorted(areas.cumsum(0) / areas.sum(), steps).clamp(max=len(areas) - 1)
    u, v = torch.rand(2, count, generator=generator)
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    mix = torch.stack([1 - u - v, u, v], dim=-1)
    # shuffled, so that any first part is spread over the whole surface
    order = torch.randperm(count, generator=generator)
    face, mix = face[order], mix[order]
    return SurfacePoints(
        positions=(mix[..., None] * corners[face]).sum(1),
        normals=F.normalize(crossed[face], dim=-1),
        weights=(mix[..., None] * rig.weights[rig.faces[face]]).sum(1),
        area=areas.sum(),
    )


def collapsed(
    rig: Rig, kept: list[int], amplitudes: dict[int, tuple[float, float, float]], phases: dict[int, float]
) -> Rig:
    """The rig with some of its joints; the weights of others go to their nearest kept ancestor."""
    new = {old: i for i, old in enumerate(kept)}

    def ancestor(j: int) -> int:
        while j >= 0 and j not in new:
            j = rig.parents[j]
        return new[j] if j >= 0 else 0

    weights = torch.zeros(len(rig.vertices), len(kept))
    for j in range(len(rig.joints)):
        weights[:, ancestor(j)] += rig.weights[:, j]
    parents = tuple(-1 if i == 0 else ancestor(rig.parents[j]) for i, j in enumerate(kept))
    turn = torch.tensor([amplitudes.get(j, (0.0, 0.0, 0.0)) for j in kept])
    return Rig(
        rig.vertices,
        rig.faces,
        weights,
        rig.joints[kept],
        parents,
        torch.deg2rad(turn),
        torch.tensor([phases.get(j, 0.0) for j in kept]),
    )
