"""Cameras of made scenes, and what they see: images, distances, what moves, and where every seen point goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.render.mesh import visible_faces
from engine.scene import Cameras
from engine.scene.cameras import look_at

from .scenes import MadeScene

FOV_DEGREES = 52.0
# samples along each side of a pixel
SAMPLES = 2
# part of its depth by which a point may lie behind the visible surface and still count as seen
SEEN = 0.02
UP = torch.tensor([0.0, 0, 1])


def camera_path(scene: MadeScene, generator: torch.Generator, size: int) -> Cameras:
    """A smooth path of one camera for each frame: part of an orbit, with a dolly and a rise.

    Args:
        scene: What is looked at.
        generator: All randomness.
        size: Width and height of the images.
    """

    def rand() -> float:
        return float(torch.rand(1, generator=generator))

    frames = len(scene.vertices)
    t = torch.linspace(-0.5, 0.5, frames)
    azimuth = (
        math.radians(12) * (2 * rand() - 1) + math.radians(6 + 14 * rand()) * (1 if rand() < 0.5 else -1) * t
    )
    elevation = math.radians(6 + 14 * rand()) + math.radians(6) * (2 * rand() - 1) * t
    radius = 2.0 + 0.4 * rand() + 0.4 * (2 * rand() - 1) * t
    target = scene.center + 0.06 * (2 * torch.rand(3, generator=generator) - 1)
    return _around(target, azimuth, elevation, radius, size)


def beside(path: Cameras, scene: MadeScene, frames: Tensor, degrees: Tensor, rise: Tensor) -> Cameras:
    """Views off the path: its cameras at some frames, turned around the scene's center.

    Args:
        path: The path.
        scene: The scene.
        frames: Frame indices [M].
        degrees: Angles about the vertical axis [M].
        rise: Angles upward in degrees [M].
    """
    offset = path.centers[frames] - scene.center.double()
    radius = offset.norm(dim=-1)
    azimuth = torch.atan2(offset[:, 0], -offset[:, 1]) + torch.deg2rad(degrees)
    elevation = torch.asin(offset[:, 2] / radius) + torch.deg2rad(rise)
    return _around(scene.center, azimuth, elevation, radius, path.sizes[0][0])


def _around(target: Tensor, azimuth: Tensor, elevation: Tensor, radius: Tensor, size: int) -> Cameras:
    count = len(azimuth)
    flat = radius * elevation.cos()
    x, y, z = flat * azimuth.sin(), -flat * azimuth.cos(), radius * elevation.sin()
    positions = torch.stack([x, y, z], dim=-1) + target
    poses = torch.stack([look_at(p, target, UP) for p in positions])
    focal = size / 2 / math.tan(math.radians(FOV_DEGREES) / 2)
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(poses, K.expand(count, 3, 3), ((size, size),) * count, tuple(map(str, range(count))))


@dataclass(frozen=True, eq=False)
class Seen:
    """Surface points at the pixels of one view: face [H, W] (−1: none), weights of its corners [H, W, 3], depth [H, W]."""

    face: Tensor
    weights: Tensor
    depth: Tensor

    def at(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """Positions [..., H, W, 3] of the same points where vertices are [..., V, 3]."""
        corners = vertices[..., faces[self.face.clamp(min=0)], :]
        return (corners * self.weights[..., None]).sum(-2)


def seen(scene: MadeScene, frame: int, cameras: Cameras, view: int) -> Seen:
    """What one view sees at pixel centers, at one frame."""
    vertices = scene.vertices[frame].double()
    face = visible_faces(vertices, scene.faces, cameras, view)
    pixels, depth = cameras.project(vertices, view)
    corners = torch.cat([pixels, 1 / depth[:, None].clamp(min=1e-6)], dim=1)[scene.faces[face.clamp(min=0)]]
    height, width = face.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    a, b, c = corners.unbind(-2)
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    area = torch.where(area == 0, 1.0, area)
    wa = ((b[..., 0] - x) * (c[..., 1] - y) - (b[..., 1] - y) * (c[..., 0] - x)) / area
    wb = ((c[..., 0] - x) * (a[..., 1] - y) - (c[..., 1] - y) * (a[..., 0] - x)) / area
    weights = torch.stack([wa, wb, 1 - wa - wb], dim=-1) * corners[..., 2]
    inverse = weights.sum(-1)
    hit = (face >= 0) & (inverse > 0)
    inverse = torch.where(hit, inverse, 1.0)
    return Seen(
        torch.where(hit, face, -1),
        (weights / inverse[..., None]).float(),
        torch.where(hit, 1 / inverse, 0.0).float(),
    )


def photograph(scene: MadeScene, frame: int, cameras: Cameras, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image [H, W, 3], depth along the viewing axis [H, W], and the part of each pixel that moves [H, W]."""
    width, height = cameras.sizes[view]
    large = cameras[view].resized(((SAMPLES * width, SAMPLES * height),))
    found = seen(scene, frame, large, 0)
    face = found.face.reshape(-1)
    rest = found.at(scene.rest, scene.faces).reshape(-1, 3)
    hit = face >= 0
    color = torch.where(hit[:, None], scene.color(rest, face.clamp(min=0)), 0.0)
    moves = (hit & scene.moves[scene.part[face.clamp(min=0)]]).float()

    def pooled(x: Tensor) -> Tensor:
        cells = x.reshape(height, SAMPLES, width, SAMPLES, -1)
        return cells.mean((1, 3))

    return pooled(color), pooled(found.depth)[..., 0], pooled(moves)[..., 0]


def tracks(scene: MadeScene, cameras: Cameras, own: list[int], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the points at cell centers of some frames are at every frame.

    Args:
        scene: The scene.
        cameras: The path, T cameras.
        own: The A frames whose points are followed.
        size: Cells along each side of an image.

    Returns:
        World positions [A, T, size, size, 3]; whether a frame sees the point [A, T, size, size]; whether it moves
        [A, size, size].
    """
    small = cameras.resized(((size, size),) * len(cameras))
    found = [seen(scene, t, small, t) for t in range(len(cameras))]
    positions = torch.stack([found[t].at(scene.vertices, scene.faces) for t in own])
    # as fine as an image: a cell's depth is too coarse near edges
    width, height = cameras.sizes[0]
    depths = torch.stack([seen(scene, t, cameras, t).depth for t in range(len(cameras))])
    # the farthest of a pixel's neighbors: depth differs within a pixel where a surface is seen at a grazing angle
    depths = F.max_pool2d(depths[:, None], 3, 1, 1)[:, 0]
    visible = torch.zeros(positions.shape[:-1], dtype=torch.bool)
    for t in range(len(cameras)):
        pixels, depth = cameras.project(positions[:, t].reshape(-1, 3).double(), t)
        x, y = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth > 0)
        surface = depths[t][y.clamp(0, height - 1), x.clamp(0, width - 1)]
        visible[:, t] = (inside & (depth < (1 + SEEN) * surface + 1e-3)).view(visible[:, t].shape)
    moves = torch.stack([scene.moves[scene.part[found[t].face.clamp(min=0)]] for t in own])
    return positions, visible, moves
