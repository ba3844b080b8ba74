"""One shaded cut-out of a colored mesh: sRGB and coverage, antialiased, random light and camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.demo_clip.raster import rasterise, vertex_normals

FloatArray = NDArray[np.floating]


def noise(p: FloatArray, seed: int = 0) -> FloatArray:
    """Smooth value noise on the unit lattice, -1..1. p: (N, 3)."""
    cell = np.floor(p).astype(np.int64)
    f = p - cell
    f = f * f * (3 - 2 * f)
    total = np.zeros(len(p))
    for k in range(8):
        o = np.array([k & 1, k >> 1 & 1, k >> 2 & 1])
        h = (cell + o) @ np.array([374761393, 668265263, 1274126177]) + seed * 7919
        h = (h ^ (h >> 13)) * 1103515245 & 0x7FFFFFFF
        h = (h ^ (h >> 15)) * 12345677 & 0x7FFFFFFF
        total += np.prod(np.where(o, f, 1 - f), axis=1) * (h / 0x3FFFFFFF - 1.0)
    return total


def hsv(h: float, s: float, v: float) -> FloatArray:
    k = (np.array([5.0, 3.0, 1.0]) + h * 6) % 6
    return v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)


def random_colour(rng: np.random.Generator) -> FloatArray:
    """sRGB (3,): saturated, pastel, natural, gray, black or white."""
    kind = rng.random()
    if kind < 0.30:
        return hsv(rng.random(), rng.uniform(0.55, 1.0), rng.uniform(0.45, 1.0))
    if kind < 0.50:
        return hsv(rng.random(), rng.uniform(0.1, 0.45), rng.uniform(0.6, 1.0))
    if kind < 0.68:
        return hsv(rng.uniform(0.02, 0.14), rng.uniform(0.15, 0.8), rng.uniform(0.2, 0.95))
    if kind < 0.82:
        return hsv(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4))
    return hsv(
        rng.random(), rng.uniform(0, 0.08), rng.choice([rng.uniform(0.03, 0.2), rng.uniform(0.2, 0.8), 0.95])
    )


def pattern(p: FloatArray, rng: np.random.Generator) -> FloatArray:
    """sRGB albedo (N, 3) at object points (N, 3) in about -1..1: plain, bands, checks, spots, veins, a slope."""
    a, b = random_colour(rng), random_colour(rng)
    kind = rng.random()
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    if rng.random() < 0.5:
        axis = np.eye(3)[rng.integers(3)]
    t = p @ axis
    f = rng.uniform(1.5, 9)
    if kind < 0.42:
        w = np.zeros(len(p))
    elif kind < 0.58:
        w = np.clip(np.sin(t * f * 2) * 8 + rng.uniform(-4, 4), 0, 1)
    elif kind < 0.66:
        w = (np.floor(p * f * 0.7).sum(axis=1) % 2).astype(float)
    elif kind < 0.78:
        w = np.clip((noise(p * f, int(rng.integers(999))) - rng.uniform(0, 0.4)) * 12, 0, 1)
    elif kind < 0.88:
        w = np.clip(0.5 + 0.8 * noise(p * f, 3) + 0.4 * noise(p * f * 2.3, 4), 0, 1)
    else:
        w = np.clip(0.5 + t * rng.uniform(0.5, 2), 0, 1)
    c = a + (b - a) * w[:, None]
    if rng.random() < 0.35:
        c = c * (1 + rng.uniform(0.03, 0.15) * noise(p * rng.uniform(6, 25), 9))[:, None]
    return c


def shade(
    points: FloatArray,
    triangles: NDArray[np.int64],
    part: NDArray[np.int64],
    rest: FloatArray,
    colour: dict[int, FloatArray] | None,
    rng: np.random.Generator,
    *,
    size: int = 256,
    azimuth: float = 0.0,
    elevation: float = 0.0,
    fill: float = 0.85,
    samples: int = 2,
    two_sided: bool = True,
) -> NDArray[np.uint8]:
    """RGBA (size, size, 4) of a mesh, z up.

    points (V, 3); part (T,) a number per triangle, each with a pattern of its own; rest (V, 3) where patterns
    are evaluated; color overrides the pattern of a part with an albedo per vertex (V, 3).
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    forward = -np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    basis = np.stack([right, np.cross(forward, right), forward])
    low, high = points.min(axis=0), points.max(axis=0)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    distance = radius * rng.uniform(2.5, 6)
    local = (points - centre) @ basis.T
    local[:, 2] += distance
    xy = local[:, :2] / local[:, 2:]
    a0, a1 = xy.min(axis=0), xy.max(axis=0)
    n = size * samples
    scale = n * fill / float((a1 - a0).max())
    xy = (xy - (a0 + a1) / 2) * scale + n / 2
    faces, bary, _ = rasterise(xy, 1 / local[:, 2], triangles, n, n)
    hit = faces >= 0
    f, w = faces[hit], bary[hit]
    weights = np.concatenate([1 - w.sum(axis=1, keepdims=True), w], axis=1)[..., None]
    corner = triangles[f]
    normal = (vertex_normals(points, triangles)[corner] * weights).sum(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    if two_sided:
        normal = np.where((normal @ forward)[:, None] > 0, -normal, normal)
    where = (rest[corner] * weights).sum(axis=1)
    albedo = np.zeros((len(f), 3))
    number = part[f]
    for k in np.unique(number):
        chosen = number == k
        if colour is not None and int(k) in colour:
            albedo[chosen] = (colour[int(k)][corner[chosen]] * weights[chosen]).sum(axis=1)
        else:
            albedo[chosen] = pattern(where[chosen], rng)
    linear = np.clip(albedo, 0, 1) ** 2.2
    light = np.full((len(f), 3), rng.uniform(0.15, 0.45))
    light = light + rng.uniform(0, 0.35) * (0.5 + 0.5 * normal[:, 2:3]) * np.array([0.95, 1.0, 1.1])
    gloss = np.zeros(len(f))
    for k in range(rng.integers(1, 4)):
        d = -forward + rng.normal(size=3) * 0.9 + np.array([0, 0, 0.5])
        d /= np.linalg.norm(d)
        tint = 1 + rng.uniform(0, 0.2) * rng.normal(size=3)
        strength = rng.uniform(0.3, 0.95) / (1 + 0.6 * k)
        wrap = rng.uniform(0, 0.4)
        light = light + (np.clip((normal @ d + wrap) / (1 + wrap), 0, None) * strength)[:, None] * tint
        h = d - forward
        h /= np.linalg.norm(h)
        gloss += np.clip(normal @ h, 0, 1) ** rng.uniform(10, 80) * strength
    linear = linear * light + (rng.choice([0, 0, 0.1, 0.4]) * gloss)[:, None]
    if rng.random() < 0.4:  # crevices: darker where the normal looks away from the camera
        linear = linear * (0.55 + 0.45 * np.clip(-(normal @ forward), 0, 1))[:, None]
    x = np.where(linear > 0.8, 1.0 - 0.2 * np.exp(-(linear - 0.8) / 0.2), linear)
    srgb = np.clip(x, 0, 1) ** (1 / 2.2)
    out = np.zeros((n, n, 3))
    out[hit] = srgb
    shape = (size, samples, size, samples)
    alpha = hit.reshape(shape).mean(axis=(1, 3))
    rgb = out.reshape(*shape, 3).mean(axis=(1, 3)) / np.maximum(alpha, 1e-9)[..., None]
    return (np.concatenate([rgb, alpha[..., None]], axis=-1) * 255 + 0.5).astype(np.uint8)
