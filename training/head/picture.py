"""Images of a colored mesh: light from a sky with shadows per vertex, colors interpolated inside triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from engine.render.mesh import visible_faces
from engine.render.numba.mesh import nearest_faces
from engine.scene import Cameras

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BUFFER = 384  # pixels of a light's depth map
REACH = 0.23  # meters from its center to its edge
BIAS = 1.5e-3  # meters in front of a vertex that do not shade it
BOUNCE = np.array([0.10, 0.085, 0.075])  # light that also reaches shadows


@dataclass(frozen=True)
class Sky:
    """Directions towards the light and the light from each."""

    directions: Floats  # [L, 3] unit
    radiance: Floats  # [L, 3] linear

    @staticmethod
    def studio(count: int = 128) -> Sky:
        """A large soft light from above the left of the camera, a weaker one from the right, and an even sky."""
        index = np.arange(count) + 0.5
        height = 1 - 2 * index / count
        turn = np.pi * (1 + 5**0.5) * index
        flat = np.sqrt(1 - height**2)
        directions = np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], axis=1)

        def lobe(x: float, y: float, z: float, sharp: float) -> Floats:
            toward = np.array([x, y, z]) / np.linalg.norm([x, y, z])
            return np.exp(sharp * (directions @ toward - 1))[:, None]

        radiance = (
            0.55 * np.clip(0.75 + 0.45 * height, 0.3, None)[:, None]
            + 1.9 * lobe(-0.55, 0.6, 0.75, 5) * np.array([1.0, 0.96, 0.9])
            + 0.8 * lobe(0.8, 0.25, 0.6, 4) * np.array([0.9, 0.95, 1.0])
        )
        return Sky(directions, radiance * 4 / count)


def normals(vertices: Floats, faces: Ints) -> Floats:
    """[V, 3] unit normals, weighted by area."""
    made = np.zeros_like(vertices)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    crossed = np.cross(b - a, c - a)
    for corner in range(3):
        np.add.at(made, faces[:, corner], crossed)
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-15)


def light(vertices: Floats, faces: Ints, sky: Sky) -> Floats:
    """[V, 3] the light that reaches each vertex from the sky, in front of which the mesh itself stands."""
    facing = normals(vertices, faces) @ sky.directions.T
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    total = np.tile(BOUNCE, (len(vertices), 1))
    for i, direction in enumerate(sky.directions):
        right = np.cross([0.0, 1.0, 0.0], direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(direction, right), direction])
        local = (vertices - center) @ axes.T
        corners = np.ascontiguousarray(np.c_[(local[:, :2] / REACH + 1) * BUFFER / 2, local[:, 2] + 1.0])
        found = nearest_faces(corners, faces, BUFFER, BUFFER)
        columns, rows = np.clip(corners[:, :2].astype(np.int64), 0, BUFFER - 1).T
        nearest = found[rows, columns]
        a, b, c = (corners[faces[np.maximum(nearest, 0), k]] for k in range(3))
        wa, wb, wc = barycentric(a, b, c, corners[:, 0], corners[:, 1])
        depth = wa * a[:, 2] + wb * b[:, 2] + wc * c[:, 2]
        open_ = (nearest < 0) | (corners[:, 2] > depth - BIAS)
        total += (np.maximum(facing[:, i], 0) * open_)[:, None] * sky.radiance[i]
    return total


def barycentric(a: Floats, b: Floats, c: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights of the corners at x, y on the image."""
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    area = np.where(area == 0, 1.0, area)
    wa = ((b[..., 0] - x) * (c[..., 1] - y) - (b[..., 1] - y) * (c[..., 0] - x)) / area
    wb = ((c[..., 0] - x) * (a[..., 1] - y) - (c[..., 1] - y) * (a[..., 0] - x)) / area
    return wa, wb, 1 - wa - wb


def draw(
    vertices: Floats, faces: Ints, colors: Floats, cameras: Cameras, view: int, supersampling: int
) -> tuple[Floats, Floats, Ints]:
    """One view.

    Args:
        vertices: [V, 3].
        faces: [F, 3].
        colors: [V, 3] linear, light included.
        cameras: The rig at the resolution of the image.
        view: The camera in it.
        supersampling: Samples along a pixel's side.

    Returns:
        Linear colors [H, W, 3] premultiplied by coverage, coverage [H, W], and the face at each pixel center [H, W].
    """
    width, height = cameras.sizes[view]
    fine = cameras[view].resized(((width * supersampling, height * supersampling),))
    posed = torch.from_numpy(vertices)
    found = visible_faces(posed, torch.from_numpy(faces), fine).numpy()
    pixels, depth = (t.numpy() for t in fine.project(posed, 0))
    color, cover = np.zeros((height, width, 3)), np.zeros((height, width))
    _average(found, np.ascontiguousarray(pixels), depth, faces, colors, supersampling, color, cover)
    half = supersampling // 2
    return color, cover, found[half::supersampling, half::supersampling]


@numba.njit
def _average(found, pixels, depth, faces, colors, supersampling, color, cover):  # pyright: ignore
    """Fills `color` and `cover` with the means of a pixel's samples; colors are linear on the surface."""
    share = 1.0 / supersampling**2
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            if found[row, column] < 0:
                continue
            a, b, c = faces[found[row, column]]
            x, y = column + 0.5, row + 0.5
            xa, ya, xb, yb, xc, yc = (
                pixels[a, 0],
                pixels[a, 1],
                pixels[b, 0],
                pixels[b, 1],
                pixels[c, 0],
                pixels[c, 1],
            )
            area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            wa = ((xb - x) * (yc - y) - (yb - y) * (xc - x)) / area / depth[a]
            wb = ((xc - x) * (ya - y) - (yc - y) * (xa - x)) / area / depth[b]
            wc = ((xa - x) * (yb - y) - (ya - y) * (xb - x)) / area / depth[c]
            total = (wa + wb + wc) / share
            i, j = row // supersampling, column // supersampling
            cover[i, j] += share
            for k in range(3):
                color[i, j, k] += (wa * colors[a, k] + wb * colors[b, k] + wc * colors[c, k]) / total
