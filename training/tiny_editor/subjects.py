"""Procedural subjects: blobs, super-ellipsoids, extrusions, tubes, creatures and piles of primitives.

The family "lathe" (vases, chess pieces) is held out of training and used for the figures in the model card.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .render import FloatArray, noise, shade

Mesh = tuple[FloatArray, NDArray[np.int64]]
FAMILIES = ("blob", "heap", "creature", "figure", "tube", "extrusion")
HELD_OUT_FAMILY = "lathe"


def grid(rows: int, around: int, closed: bool = True) -> NDArray[np.int64]:
    """Triangles of a (rows, around) grid of vertices, wrapped in its second direction."""
    r, a = np.meshgrid(np.arange(rows - 1), np.arange(around if closed else around - 1), indexing="ij")
    b = (a + 1) % around
    q = np.stack([r * around + a, r * around + b, (r + 1) * around + b, (r + 1) * around + a], -1).reshape(
        -1, 4
    )
    return np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]])


def _power(x: FloatArray, e: float) -> FloatArray:
    return np.sign(x) * np.abs(x) ** e


def ellipsoid(
    rng: np.random.Generator, squareness: float | None = None, rows: int = 28, around: int = 36
) -> Mesh:
    """A super-ellipsoid [Barr 1981] of radius about 1."""
    e1, e2 = (
        rng.choice([1.0, 1.0, 0.25, 0.6, 1.4], size=2) if squareness is None else (squareness, squareness)
    )
    t = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    p = np.linspace(0, 2 * np.pi, around, endpoint=False)[None]
    x = _power(np.cos(t), e1) * _power(np.cos(p), e2)
    y = _power(np.cos(t), e1) * _power(np.sin(p), e2)
    z = np.broadcast_to(_power(np.sin(t), e1), x.shape)
    return np.stack([x, y, z], -1).reshape(-1, 3), grid(rows, around)


def sweep(path: FloatArray, radius: FloatArray, around: int = 14, squash: float = 1.0) -> Mesh:
    """A tube along a path (K, 3) with a radius for each point (K,), closed at both ends."""
    d = np.gradient(path, axis=0)
    d /= np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-9)
    up = np.array([0.31, 0.86, 0.4])
    u = np.cross(d, up)
    u /= np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-9)
    v = np.cross(d, u)
    p = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ring = np.cos(p)[None, :, None] * u[:, None] + squash * np.sin(p)[None, :, None] * v[:, None]
    points = path[:, None] + radius[:, None, None] * ring
    points = np.concatenate(
        [np.repeat(path[:1, None], around, 1), points, np.repeat(path[-1:, None], around, 1)]
    )
    return points.reshape(-1, 3), grid(len(path) + 2, around)


def capsule(a: FloatArray, b: FloatArray, ra: float, rb: float, around: int = 14) -> Mesh:
    t = np.linspace(0, 1, 9)
    cap = np.sin(np.linspace(0.15, np.pi / 2, 4))
    axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
    lead = -axis * ra * np.cos(np.linspace(0.15, np.pi / 2, 4))[:, None] + a
    tail = axis * rb * np.cos(np.linspace(np.pi / 2, 0.15, 4))[:, None] + b
    path = np.concatenate([lead, a + (b - a) * t[1:-1, None], tail])
    return sweep(path, np.concatenate([ra * cap, ra + (rb - ra) * t[1:-1], rb * cap[::-1]]), around)


def rotation(rng: np.random.Generator, amount: float = 1.0) -> FloatArray:
    q = rng.normal(size=4) * np.array([1 / max(amount, 1e-3), 1, 1, 1])
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def blob(rng: np.random.Generator) -> list[Mesh]:
    p, t = ellipsoid(rng, 1.0, 48, 64)
    f, s = rng.uniform(0.8, 2.8), int(rng.integers(9999))
    d = (
        1
        + rng.uniform(0.2, 0.6) * noise(p * f + 50, s)
        + rng.uniform(0, 0.2) * noise(p * f * 2.7 + 50, s + 1)
    )
    p = p * d[:, None] * rng.uniform(0.5, 1.3, size=3)
    parts = [(p @ rotation(rng).T, t)]
    for _ in range(rng.integers(0, 4)):  # eyes, warts
        q, u = ellipsoid(rng, 1.0, 14, 18)
        parts.append((q * rng.uniform(0.08, 0.25) + parts[0][0][rng.integers(len(p))], u))
    return parts


def heap(rng: np.random.Generator) -> list[Mesh]:
    parts = []
    centre = np.zeros(3)
    for _ in range(rng.integers(2, 8)):
        p, t = ellipsoid(rng)
        p = p * rng.uniform(0.15, 0.7, size=3) * rng.uniform(0.6, 1.3)
        parts.append((p @ rotation(rng, rng.uniform(0.05, 1)).T + centre, t))
        centre = centre + rng.normal(size=3) * np.array([0.35, 0.35, 0.5])
    return parts


def creature(rng: np.random.Generator) -> list[Mesh]:
    """A body on two to six legs with a neck, a head, ears and a tail."""
    n = rng.normal
    length, girth, leg = rng.uniform(0.4, 1.0), rng.uniform(0.2, 0.42), rng.uniform(0.2, 0.9)
    p, t = ellipsoid(rng, 1.0)
    parts = [(p * np.array([length, girth, girth * rng.uniform(0.8, 1.3)]), t)]
    thick = rng.uniform(0.05, 0.14)
    for x in np.linspace(-0.65, 0.65, rng.integers(1, 4)):
        for s in (-1, 1):
            hip = np.array([x * length, s * girth * 0.65, -girth * 0.4])
            knee = hip + np.array([n() * 0.15, s * 0.05, -leg * 0.5])
            foot = knee + np.array([n() * 0.15, s * 0.03, -leg * 0.5])
            parts += [capsule(hip, knee, thick * 1.2, thick), capsule(knee, foot, thick, thick * 0.8)]
            q, u = ellipsoid(rng, 1.0, 12, 16)
            parts.append((q * np.array([0.13, 0.09, 0.07]) + foot + np.array([0.05, 0, 0]), u))
    neck = np.array([length * 0.8, 0, girth * 0.3])
    head = neck + np.array([rng.uniform(0.05, 0.4), n() * 0.1, rng.uniform(0.1, 0.7)])
    parts.append(capsule(neck, head, girth * 0.5, girth * 0.35))
    size = rng.uniform(0.18, 0.36)
    parts.append((p * size * rng.uniform(0.8, 1.3, size=3) + head, t))
    for s in (-1, 1):
        q, u = ellipsoid(rng, 1.0, 14, 16)
        ear = head + np.array([0, s * size * 0.6, size * 0.8])
        parts.append((q * np.array([0.05, 0.09, rng.uniform(0.08, 0.3)]) + ear, u))
        eye = head + size * np.array([0.8, s * 0.4, 0.25])
        parts.append((q * 0.06 + eye, u))
    if rng.random() < 0.7:
        k = np.linspace(0, 1, 12)[:, None]
        end = np.array([-rng.uniform(0.3, 0.9), n() * 0.3, rng.uniform(-0.3, 0.6)])
        path = np.array([-length * 0.9, 0, 0.1]) + k * end + np.sin(k * 3) * np.array([0, 0.1, 0.2])
        parts.append(sweep(path, rng.uniform(0.04, 0.1) * (1.05 - k[:, 0] * rng.uniform(0, 0.9))))
    return parts


def figure(rng: np.random.Generator) -> list[Mesh]:
    """An upright figure of capsules and boxes: toy people, robots, snowmen."""
    boxy = rng.random() < 0.4
    s = rng.choice([0.25, 0.5]) if boxy else 1.0
    p, t = ellipsoid(rng, float(s))
    hip, shoulder = rng.uniform(0.14, 0.26), rng.uniform(0.18, 0.36)
    leg, trunk, head = rng.uniform(0.4, 0.95), rng.uniform(0.45, 0.8), rng.uniform(0.13, 0.34)
    parts = [
        (p * np.array([shoulder, rng.uniform(0.12, 0.25), trunk / 2]) + np.array([0, 0, leg + trunk / 2]), t)
    ]
    top = leg + trunk
    parts.append((p * head * rng.uniform(0.8, 1.2, size=3) + np.array([0, 0, top + head * 0.95]), t))
    if rng.random() < 0.5:  # hair or a hat
        parts.append((p * head * np.array([1.1, 1.15, 0.6]) + np.array([0, 0.03, top + head * 1.45]), t))
    q, u = ellipsoid(rng, 1.0, 12, 16)
    for k in (-1, 1):
        swing = rng.normal() * 0.25
        a = np.array([k * hip * 0.7, 0, leg])
        knee = a + np.array([k * 0.03, swing * 0.6, -leg * 0.5])
        foot = knee + np.array([0, rng.normal() * 0.12, -leg * 0.5])
        w = rng.uniform(0.07, 0.13)
        parts += [capsule(a, knee, w * 1.2, w), capsule(knee, foot, w, w * 0.75)]
        parts.append((q * np.array([0.09, 0.17, 0.07]) + foot + np.array([0, -0.06, 0]), u))
        arm = np.array([k * shoulder, 0, top - 0.08])
        elbow = arm + np.array([k * rng.uniform(0.02, 0.3), rng.normal() * 0.15, -rng.uniform(-0.1, 0.32)])
        hand = elbow + np.array([k * rng.uniform(-0.1, 0.25), rng.normal() * 0.15, rng.uniform(-0.32, 0.3)])
        w = rng.uniform(0.05, 0.09)
        parts += [capsule(arm, elbow, w * 1.3, w), capsule(elbow, hand, w, w * 0.8)]
        parts.append((q * rng.uniform(0.06, 0.11) + hand, u))
        eye = np.array([k * head * 0.4, -head * 0.85, top + head * 1.1])
        parts.append((q * head * rng.uniform(0.1, 0.25) + eye, u))
    return parts


def tube(rng: np.random.Generator) -> list[Mesh]:
    parts = []
    for _ in range(rng.integers(1, 4)):
        k = np.linspace(0, 1, 60)
        path = np.stack(
            [sum(rng.normal() / (j + 1) * np.sin(2 * np.pi * (j * 0.7 + 0.4) * k + rng.uniform(0, 6)) for j in range(3))
             for _ in range(3)], axis=1,
        )  # fmt: skip
        wave = 1 + 0.4 * np.sin(k * rng.uniform(5, 40)) * rng.uniform(0, 1)
        parts.append(sweep(path, rng.uniform(0.08, 0.28) * wave, 18, rng.uniform(0.5, 1)))
    return parts


def extrusion(rng: np.random.Generator) -> list[Mesh]:
    """Stars, polygons and wavy discs with thickness, a few of them."""
    parts = []
    for _ in range(rng.integers(1, 5)):
        a = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        lobes = rng.integers(2, 9)
        wave = np.abs(np.sin(a * lobes / 2)) if rng.random() < 0.5 else np.sin(a * lobes)
        r = 1 + rng.uniform(-0.5, 0.5) * wave
        if rng.random() < 0.3:
            r = np.where(np.arange(72) % 2 == 0, r, r * rng.uniform(0.6, 1))
        outline = np.stack([r * np.cos(a) * rng.uniform(0.5, 1), r * np.sin(a), np.zeros(72)], -1)
        h = rng.uniform(0.1, 0.7)
        layers = [outline * 0, outline * 0.9, outline, outline, outline * 0.9, outline * 0]
        heights = [-h, -h, -h * 0.85, h * 0.85, h, h]
        p = np.concatenate([x + np.array([0, 0, z]) for x, z in zip(layers, heights, strict=True)])
        size = rng.uniform(0.3, 0.8)
        parts.append((p * size @ rotation(rng).T + rng.normal(size=3) * 0.35, grid(6, 72)))
    return parts


def lathe(rng: np.random.Generator) -> list[Mesh]:
    k = np.linspace(0, 1, 60)
    r = 0.32 + sum(
        rng.normal() * 0.16 / (j + 1) * np.cos(np.pi * (j + 1) * k + rng.uniform(0, 1)) for j in range(5)
    )
    r = np.clip(r, 0.06, None)
    if rng.random() < 0.5:
        r = np.round(r * 10) / 10 * 0.5 + r * 0.5
    path = np.stack([0 * k, 0 * k, k * rng.uniform(1.0, 1.8)], axis=1)
    parts = [sweep(path, r, 40)]
    if rng.random() < 0.4:
        p, t = ellipsoid(rng, 1.0)
        parts.append((p * rng.uniform(0.15, 0.3) + path[-1], t))
    return parts


_MAKERS = {
    "blob": blob, "heap": heap, "creature": creature, "figure": figure, "tube": tube, "extrusion": extrusion,
    "lathe": lathe,
}  # fmt: skip


def cutout(family: str, rng: np.random.Generator, size: int = 256) -> NDArray[np.uint8]:
    """RGBA (size, size, 4) of a random member of a family."""
    parts = _MAKERS[family](rng)
    points, triangles, number, count = [], [], [], 0
    colours = rng.integers(2, 6)
    for p, t in parts:
        points.append(p)
        triangles.append(t + count)
        number.append(np.full(len(t), rng.integers(colours)))
        count += len(p)
    all_points = np.concatenate(points)
    mean, spread = all_points.mean(axis=0), np.abs(all_points - all_points.mean(axis=0)).max()
    return shade(
        all_points, np.concatenate(triangles), np.concatenate(number), (all_points - mean) / spread, None, rng,
        size=size, azimuth=float(rng.uniform(0, 360)), elevation=float(np.clip(rng.normal() * 18 + 10, -35, 70)),
    )  # fmt: skip
