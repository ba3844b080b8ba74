"""Cut-outs of painted ICT-FaceKit heads with the layers of `regions.py`: skin, lips, hair, brows, patterns, what faces up.

The heads have the colors of the bundled head (`training/head/surface.py`) with other palettes, and soft light from all
sides. The last ten identity shapes are only used for held-out heads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.demo_clip.raster import rasterise, sky_irradiance, sphere_directions, vertex_normals
from training.head import ict as kit_module
from training.head.surface import Palette, Surface

from . import regions
from .render import FloatArray, hsv, random_colour

SHARED = Path(os.environ.get("GS4D_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
HELD_OUT_SHAPES = 10
SIZE = 256
Picture = NDArray[np.uint8]
_PALETTE = ("skin", "lips", "hair", "iris")
# z up and facing -y, like the bodies
_TURN, _SIGN = [0, 2, 1], np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Kit:
    """The mean head and what is fixed to its surface."""

    rest: FloatArray  # [V, 3] centimeters, y up, z forward
    faces: NDArray[np.int64]  # [F, 3]
    is_skin: NDArray[np.bool_]  # [F] face and head, not eyes or mouth
    identity: FloatArray  # [100, V, 3] centimeters
    expression: FloatArray  # [E, V, 3]
    fields: FloatArray  # [V, 4] hair (centimeters above the hairline), ears, brows, lips
    colors: dict[str, FloatArray]  # linear colors [V, 3] are base + the sum of palette color * share
    outward: FloatArray  # [V, 3] unit normals


@cache
def kit() -> Kit:
    found = kit_module.load(SHARED)
    surface = Surface(found.vertices, found.faces)
    labels = kit_module.members(kit_module.PARTS, len(found.vertices))
    faces = found.faces[(labels[found.faces] >= 0).all(axis=1)]
    # The colors are affine in the palette: small palettes never reach the clip.
    black = dict.fromkeys(_PALETTE, (0.0, 0.0, 0.0))
    base = surface.colors(Palette(**black))
    colors = {"base": base}
    for name in _PALETTE:
        colors[name] = (surface.colors(Palette(**{**black, name: (0.3, 0.3, 0.3)})) - base) / 0.3
    return Kit(
        surface.points, faces, surface.skin[faces].all(axis=1), found.identities * 100,
        np.stack(list(found.expressions.values())) * 100,
        np.stack([surface.hair, surface.ears, surface.brows[0] + surface.brows[1], surface.lips], 1).astype(float),
        colors, vertex_normals(found.vertices, faces),
    )  # fmt: skip


def _linear(srgb: FloatArray) -> FloatArray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encoded(linear: FloatArray) -> FloatArray:
    x = np.where(linear > 0.8, 1.0 - 0.2 * np.exp(-(linear - 0.8) / 0.2), linear)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


def _palette(rng: np.random.Generator) -> dict[str, FloatArray]:
    """Linear colors of skin, lips, hair and iris; hair in natural colors more often than not."""
    tone = rng.random()
    pale, dark = np.array([0.97, 0.82, 0.72]), np.array([0.27, 0.16, 0.11])
    skin = np.clip(pale + (dark - pale) * tone**1.3 + rng.normal(size=3) * 0.02, 0.02, 1)
    lips = skin * np.clip(np.array([0.9, 0.58, 0.58]) + rng.normal(size=3) * 0.08, 0.2, 1)
    kind = rng.random()
    if kind < 0.65:
        hair = hsv(rng.uniform(0.02, 0.13), rng.uniform(0.1, 0.8), rng.uniform(0.05, 0.7) ** 1.4)
    elif kind < 0.75:
        hair = np.full(3, rng.uniform(0.03, 0.9))
    else:
        hair = random_colour(rng)
    iris = hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.7))
    return {
        "skin": _linear(skin),
        "lips": _linear(lips),
        "hair": _linear(np.array(hair)),
        "iris": _linear(iris),
    }


def posed(rng: np.random.Generator, held_out: bool = False) -> FloatArray:
    """Vertices (V, 3) in centimeters, z up: a random identity, expression and thickness of the hair."""
    k = kit()
    weights = rng.normal(size=len(k.identity)) * (1.4 if held_out else 0.9)
    weights[: -HELD_OUT_SHAPES if held_out else None] *= float(not held_out)
    weights[-HELD_OUT_SHAPES:] *= float(held_out)
    mimic = np.zeros(len(k.expression))
    mimic[rng.integers(0, len(mimic), 5)] = rng.uniform(0, 0.8, 5)
    made = k.rest + np.tensordot(weights, k.identity, 1) + np.tensordot(mimic, k.expression, 1)
    thickness = rng.uniform(0, 1.4) * kit_module.smooth(k.fields[:, 0], -0.2, 1.6) * (k.fields[:, 1] < 0.5)
    made = made + k.outward * thickness[:, None]
    return made[:, _TURN] * _SIGN


def lit(points: FloatArray, rng: np.random.Generator, directions: int = 36) -> FloatArray:
    """Light (V, 3) at each vertex from a random sky."""
    toward = sphere_directions(directions)
    radiance = np.full((directions, 3), rng.uniform(0.15, 0.5))
    for _ in range(rng.integers(2, 6)):
        axis = rng.normal(size=3) + np.array([0, -0.5, 0.4])
        lamp = np.exp(rng.uniform(2, 8) * (toward @ (axis / np.linalg.norm(axis)) - 1))
        radiance += lamp[:, None] * rng.uniform(0.3, 2.2) * (1 + 0.1 * rng.normal(size=3))
    radiance *= rng.uniform(0.55, 1.1) / radiance.mean()
    faces = kit().faces
    return sky_irradiance(points, vertex_normals(points, faces), faces, toward, radiance) + 0.06


def picture(
    points: FloatArray, light: FloatArray, rng: np.random.Generator, azimuth: float, elevation: float, samples: int = 2
) -> Picture:  # fmt: skip
    """RGBA and layers (SIZE, SIZE, 4 + len(LAYERS)) of one view, with a random palette. Angles in degrees."""
    k = kit()
    a, e = np.radians(azimuth), np.radians(elevation)
    forward = -np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    basis = np.stack([right, np.cross(forward, right), forward])
    low, high = points.min(axis=0), points.max(axis=0)
    local = (points - (low + high) / 2) @ basis.T
    local[:, 2] += float(np.linalg.norm(high - low)) / 2 * rng.uniform(3, 6)
    xy = local[:, :2] / local[:, 2:]
    first, last = xy.min(axis=0), xy.max(axis=0)
    n = SIZE * samples
    xy = (xy - (first + last) / 2) * n * 0.92 / float((last - first).max()) + n / 2
    found, bary, _ = rasterise(xy, 1 / local[:, 2], k.faces, n, n)
    hit = found >= 0
    f, b = found[hit], bary[hit]
    corner = k.faces[f]
    weights = np.concatenate([1 - b.sum(axis=1, keepdims=True), b], axis=1)[..., None]
    palette = _palette(rng)
    albedo = np.clip(k.colors["base"] + sum(k.colors[name] * palette[name] for name in _PALETTE), 0, 1)
    srgb = _encoded((albedo * light)[corner].__mul__(weights).sum(axis=1))
    values = np.concatenate([k.rest, k.fields, vertex_normals(points, k.faces)[:, 2:]], axis=1)
    values = (values[corner] * weights).sum(axis=1)
    layers = shares(values[:, :3], values[:, 3:7], k.is_skin[f], values[:, 7])
    out = np.zeros((n, n, 3 + layers.shape[1]), np.float32)
    out[hit] = np.concatenate([srgb, layers], axis=1)
    shape = (SIZE, samples, SIZE, samples)
    alpha = hit.reshape(shape).mean(axis=(1, 3))
    mean = out.reshape(*shape, -1).mean(axis=(1, 3)) / np.maximum(alpha, 1e-9)[..., None]
    whole = np.concatenate([mean[..., :3], alpha[..., None], mean[..., 3:]], axis=-1)
    return (whole.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def shares(q: FloatArray, fields: FloatArray, is_skin: NDArray[np.bool_], height: FloatArray) -> FloatArray:
    """Layers (N, len(LAYERS)) of samples.

    Args:
        q: [N, 3] points of the mean head in centimeters.
        fields: [N, 4] as in `Kit`.
        is_skin: [N] the sample lies on the face or the head.
        height: [N] upward components of the normals.
    """
    hair = is_skin & (fields[:, 0] > 0) & (fields[:, 1] < 0.5)
    lips = is_skin & ~hair & (fields[:, 3] > 0.5)
    brow = is_skin & ~hair & ~lips & (fields[:, 2] > 0.35)
    skin = is_skin & ~hair & ~lips & ~brow
    paint, lines, spots = regions.patterns(q)
    up = regions.facing_up(height)
    zero = np.zeros(len(q))
    return np.stack([skin, lips, hair, brow, paint * skin, lines * skin, spots * skin, up, zero], 1).astype(
        np.float32
    )


def view(rng: np.random.Generator) -> tuple[float, float]:
    """Azimuth and elevation in degrees; some views from above."""
    elevation = rng.uniform(20, 55) if rng.random() < 0.15 else rng.normal() * 13 + 5
    return float(-90 + np.clip(rng.normal() * 45, -170, 170)), float(np.clip(elevation, -35, 60))


def heads() -> Iterator[Picture]:
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    while True:
        points = posed(rng)
        for _ in range(2):
            light = lit(points, rng)
            for _ in range(3):
                yield picture(points, light, rng, *view(rng))


def held_out(rng: np.random.Generator) -> Picture:
    """A head of the identity shapes that are never trained on."""
    points = posed(rng, held_out=True)
    return picture(points, lit(points, rng, 64), rng, *view(rng))
