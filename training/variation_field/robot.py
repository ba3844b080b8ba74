"""The held-out family: RobotExpressive (CC0) in its own 14 actions, read with the engine's glTF reader."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry.animated_mesh import AnimatedMesh, sample_surface, triangle_areas
from engine.io.gltf import action_names, open_document, read_animated_mesh
from engine.scene import rotations

from .rig import Moving, SurfacePoints

# a node that is no part of the robot
HIDDEN = ("icosphere",)
FPS = 24.0


def file() -> Path:
    """The robot's file: GS4D_ROBOT."""
    return Path(os.environ.get("GS4D_ROBOT", "RobotExpressive.glb"))


@cache
def actions(path: Path) -> list[str]:
    """Names of the actions."""
    return action_names(open_document(path))


@cache
def _animated(path: Path, action: str) -> AnimatedMesh:
    reading = read_animated_mesh(open_document(path), action, FPS, HIDDEN)
    while True:
        try:
            next(reading)
        except StopIteration as done:
            return done.value


def moving(
    seed: int, counts: tuple[int, int], frames: int, generator: torch.Generator
) -> tuple[SurfacePoints, Moving, Moving]:
    """Points on the robot during a part of an action.

    Args:
        seed: Chooses the action; consecutive seeds take consecutive ones.
        counts: Points that become Gaussians, and points of the mesh.
        frames: T.
        generator: The part and the points.

    Returns:
        All points at the first frame, and how both kinds move.
    """
    names = actions(file())
    mesh = _animated(file(), names[seed % len(names)])
    length = len(mesh.frames)
    # at most two seconds of the action
    span = min(length - 1, int(2 * FPS))
    start = int(torch.randint(length - span, (1,), generator=generator))
    index = start + (torch.arange(frames) * span / (frames - 1)).round().long()
    # y up and facing +z, to z up and facing -y
    vertices = mesh.frames[index][..., [0, 2, 1]] * torch.tensor([1.0, -1, 1])
    total = sum(counts)
    places = sample_surface(
        vertices[0], mesh.faces, total, int(torch.randint(1 << 30, (1,), generator=generator))
    )
    order = torch.randperm(total, generator=generator)
    places = type(places)(places.triangles[order], places.weights[order])
    positions = places.points(vertices, mesh.faces)
    corners = vertices[:, mesh.faces[places.triangles]]
    quats, normals, sizes = _frames_of(corners)
    parts = torch.unique(mesh.colors[mesh.faces[places.triangles, 0]], dim=0, return_inverse=True)[1]
    area = triangle_areas(vertices[0], mesh.faces).sum()
    surface = SurfacePoints(positions[0], normals[0], torch.ones(total, 1), area)
    first, second = slice(counts[0]), slice(counts[0], None)
    both = [Moving(positions[:, s], quats[:, s], sizes[:, s], parts[s]) for s in (first, second)]
    return surface, both[0], both[1]


def _frames_of(corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orientation [T, P, 4], normal [T, P, 3] and size against frame 0 [T, P] of triangles [T, P, 3, 3]."""
    edge, other = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    crossed = torch.linalg.cross(edge, other)
    normal, x = F.normalize(crossed, dim=-1), F.normalize(edge, dim=-1)
    quats = rotations.matrices_to_quats(torch.stack([x, torch.linalg.cross(normal, x), normal], dim=-1))
    area = crossed.norm(dim=-1).clamp(min=1e-12)
    return quats, normal, (area / area[:1]).sqrt().clamp(0.3, 3)
