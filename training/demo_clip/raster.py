"""A small z-buffer rasterizer, and sky light baked per vertex.

Both are meant for a few hundred small images: samples on a regular grid (deterministic), and visibility
of the sky determined by rendering the mesh from each direction of a fixed set.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@numba.njit(cache=True)
def _raster(xy, inverse_depth, triangles, height, width, face_ids, bary, nearest):
    """Fill face_ids (H, W), bary (H, W, 2; perspective-correct weights of corners 1 and 2)."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        za, zb, zc = inverse_depth[a], inverse_depth[b], inverse_depth[c]
        if za <= 0.0 or zb <= 0.0 or zc <= 0.0:
            continue
        xa, ya, xb, yb, xc, yc = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area == 0.0:
            continue
        x0 = max(0, int(np.ceil(min(xa, xb, xc) - 0.5)))
        x1 = min(width - 1, int(np.floor(max(xa, xb, xc) - 0.5)))
        y0 = max(0, int(np.ceil(min(ya, yb, yc) - 0.5)))
        y1 = min(height - 1, int(np.floor(max(ya, yb, yc) - 0.5)))
        inverse = 1.0 / area
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wb = ((px - xa) * (yc - ya) - (xc - xa) * (py - ya)) * inverse
                wc = ((xb - xa) * (py - ya) - (px - xa) * (yb - ya)) * inverse
                wa = 1.0 - wb - wc
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                z = wa * za + wb * zb + wc * zc
                if z > nearest[y, x]:
                    nearest[y, x] = z
                    face_ids[y, x] = t
                    bary[y, x, 0] = wb * zb / z
                    bary[y, x, 1] = wc * zc / z


def rasterise(
    xy: FloatArray, inverse_depth: FloatArray, triangles: NDArray[np.int64], height: int, width: int
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Nearest triangle for each sample.

    xy: (V, 2) in samples, (0, 0) the outer corner; inverse_depth: (V,), positive in front, larger is
    nearer. Returns face (H, W; -1 where empty), bary (H, W, 2), inverse depth (H, W; 0 where empty).
    """
    face_ids = np.full((height, width), -1, np.int64)
    bary = np.zeros((height, width, 2))
    nearest = np.zeros((height, width))
    _raster(xy, inverse_depth, triangles, height, width, face_ids, bary, nearest)
    return face_ids, bary, nearest


def vertex_normals(points: FloatArray, triangles: NDArray[np.int64]) -> FloatArray:
    """Area-weighted unit normals, (V, 3)."""
    corners = points[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [
            sum(np.bincount(triangles[:, k], face[:, axis], len(points)) for k in range(3))
            for axis in range(3)
        ],
        axis=1,
    )
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def sphere_directions(count: int) -> FloatArray:
    """Fibonacci lattice on the unit sphere, (count, 3)."""
    index = np.arange(count) + 0.5
    z = 1.0 - 2.0 * index / count
    azimuth = np.pi * (1.0 + 5.0**0.5) * index
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)


def sky_irradiance(
    points: FloatArray,
    normals: FloatArray,
    triangles: NDArray[np.int64],
    directions: FloatArray,
    radiance: FloatArray,
    resolution: int = 224,
) -> FloatArray:
    """Light that reaches each vertex from an environment, with the mesh as the only occluder.

    directions (D, 3) point toward the light, radiance (D, 3); a direction's share of the sphere is
    1/D. Returns (V, 3), 1 where a vertex faces an unoccluded environment of radiance 1.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2 * 1.02
    texel = 2 * radius / resolution
    lifted = points + normals * (1.2 * texel)
    result = np.zeros_like(points)
    for direction, colour in zip(directions, radiance, strict=True):
        up = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
        right = np.cross(up, direction)
        right /= np.linalg.norm(right)
        basis = np.stack([right, np.cross(direction, right), direction], axis=1)
        local = (points - centre) @ basis
        xy = (local[:, :2] / radius + 1) * (resolution / 2)
        depth = local[:, 2] / radius + 2.0
        _, _, nearest = rasterise(xy, depth, triangles, resolution, resolution)
        probe = (lifted - centre) @ basis
        where = (probe[:, :2] / radius + 1) * (resolution / 2) - 0.5
        height = probe[:, 2] / radius + 2.0
        lit = _soft_lookup(nearest, where, height + 0.6 * texel / radius)
        cosine = np.maximum(normals @ direction, 0.0)
        result += (4.0 * lit * cosine)[:, None] * colour / len(directions)
    return result


def _soft_lookup(nearest: FloatArray, where: FloatArray, height: FloatArray) -> FloatArray:
    """Fraction of the four texels around each probe that lie below it, bilinear."""
    size = nearest.shape[0]
    corner = np.clip(np.floor(where).astype(np.int64), 0, size - 2)
    part = np.clip(where - corner, 0.0, 1.0)
    total = np.zeros(len(where))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            total += weight * (nearest[corner[:, 1] + dy, corner[:, 0] + dx] <= height)
    return total
