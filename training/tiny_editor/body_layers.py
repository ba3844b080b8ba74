"""Layers of `regions.py` for the demo capture's dressed bodies: skin, lips, hair, brows, shirt and what faces up.

The wardrobe knows its parts only as colors, so each part is drawn once more in white, with everything else in black.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import regions
from .render import FloatArray, rasterise, vertex_normals

_COLORS = (
    "_SKIN", "_BLUSH", "_LIP", "_HAIR_DARK", "_HAIR_LIGHT", "_BROW", "_DENIM", "_DENIM_LIGHT", "_STITCH", "_CREAM",
    "_STRIPE", "_COLLAR", "_PATCH", "_BRASS", "_SOCK",
)  # fmt: skip
_WHITE = {
    "skin": ("_SKIN", "_BLUSH"),
    "lips": ("_LIP",),
    "brow": ("_BROW",),
    "shirt": ("_CREAM", "_STRIPE", "_COLLAR"),
}
# Freckles, eyelids and weave darken a part's own color.
_THRESHOLD = {"skin": 0.3, "lips": 0.45, "brow": 0.45, "shirt": 0.5}


@contextmanager
def _indicator(wardrobe_module: Any, white: tuple[str, ...]) -> Iterator[None]:
    kept = {name: getattr(wardrobe_module, name) for name in _COLORS}
    try:
        for name in _COLORS:
            setattr(wardrobe_module, name, np.full(3, float(name in white)))
        yield
    finally:
        for name, value in kept.items():
            setattr(wardrobe_module, name, value)


def of(wardrobe_module: Any, studio: Any, camera: Any, points: FloatArray, n: int = 2) -> FloatArray:
    """[H, W, len(LAYERS)] shares of the subject in 0..1 in the image of a camera, with n samples along a pixel's side."""
    wardrobe = studio.wardrobe
    local = points @ camera.w2c[:3, :3].T + camera.w2c[:3, 3]
    xy = (local[:, :2] / local[:, 2:] * np.diag(camera.k)[:2] + camera.k[:2, 2]) * n
    faces, bary, _ = rasterise(xy, 1 / local[:, 2], studio.triangles, camera.height * n, camera.width * n)
    hit = faces >= 0
    f, b = faces[hit], bary[hit]
    weights = np.concatenate([1 - b.sum(axis=1, keepdims=True), b], axis=1)[..., None]
    corners = studio.triangles[f]
    values = (studio.scalars[corners] * weights).sum(axis=1)
    uv = (studio.uv[f] * weights).sum(axis=1)
    part = studio.part[f]
    up = (vertex_normals(points, studio.triangles)[corners] * weights).sum(axis=1)[:, 2]
    found = {"up": regions.facing_up(up), "hair": np.isin(part, (wardrobe_module.HAIR, wardrobe_module.BUN))}
    is_body, is_suit = part == wardrobe_module.SKIN, part == wardrobe_module.SUIT
    for name, white in _WHITE.items():
        where = is_suit if name == "shirt" else is_body
        override = wardrobe.__dict__.get("_suit") if name == "shirt" else None
        share = np.zeros(len(f))
        if override is not None:
            share[where] = override.is_shirt(values[where, :3], values[where, 3])
        else:
            paint = wardrobe._suit if name == "shirt" else wardrobe._skin
            with _indicator(wardrobe_module, white):
                shown = paint(values[where, :3], values[where, 3], uv[where])
            share[where] = shown.mean(axis=1) > _THRESHOLD[name]
        found[name] = share
    out = np.zeros((*faces.shape, len(regions.LAYERS)), np.float32)
    for i, name in enumerate(regions.LAYERS):
        if name in found:
            out[hit, i] = found[name]
    shape = (camera.height, n, camera.width, n, len(regions.LAYERS))
    cover = hit.reshape(shape[:4]).mean(axis=(1, 3))
    return out.reshape(shape).mean(axis=(1, 3)) / np.maximum(cover, 1e-9)[..., None]
