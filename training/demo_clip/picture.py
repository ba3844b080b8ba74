"""Cameras around the subject, studio light, and rendering of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .figure import FloatArray
from .raster import rasterise, sky_irradiance, sphere_directions, vertex_normals
from .wardrobe import Wardrobe


@dataclass(frozen=True)
class Camera:
    """A pinhole view: K (3, 3) in pixels, w2c (4, 4) with OpenCV axes, (0, 0) the outer corner."""

    name: str
    width: int
    height: int
    k: FloatArray
    w2c: FloatArray


def look_at(name: str, size: tuple[int, int], eye: FloatArray, target: FloatArray, span: float) -> Camera:
    """Camera at eye toward target; the image height covers `span` meters at the target."""
    width, height = size
    forward = target - eye
    distance = float(np.linalg.norm(forward))
    forward = forward / distance
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    w2c = np.eye(4)
    w2c[:3, :3], w2c[:3, 3] = rotation, -rotation @ eye
    focal = height * distance / span
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Camera(name, width, height, k, w2c)


def rig(
    views: int, size: tuple[int, int], target: FloatArray, distance: float, span: float, arc: float
) -> tuple[list[Camera], list[str]]:
    """Views on an arc at two alternating heights and two from above; names of the two held out.

    arc: degrees around the front (-y); 360 is a full ring. The held-out views are one raised and one
    low, far from each other, each between two neighbors.
    """
    if views < 8 or views % 2:
        raise SystemExit(
            "--views must be an even number of 8 or more: two are held out, two look from above."
        )
    ring = views - 2
    if arc >= 360:
        around, above = [360.0 * i / ring for i in range(ring)], (45.0, 225.0)
        second = 2 * ((ring // 2 + 1) // 2)
    else:
        around, above = [arc * (i / (ring - 1) - 0.5) for i in range(ring)], (-arc / 4, arc / 4)
        second = 2 * ((ring - 1) // 3)
    places = [(a, (4.0, 27.0)[i % 2]) for i, a in enumerate(around)] + [(a, 55.0) for a in above]
    cameras = []
    for i, (azimuth, elevation) in enumerate(places):
        a, e = np.radians(azimuth - 90.0), np.radians(elevation)
        offset = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
        cameras.append(look_at(f"cam{i:02d}", size, target + distance * offset, target, span))
    return cameras, [f"cam{1 if arc >= 360 else 3:02d}", f"cam{second:02d}"]


class Studio:
    """Area lights around the subject: warm key, cool fill, a rim light from behind, a sky and a pale floor."""

    def __init__(self, wardrobe: Wardrobe, directions: int = 160):
        self.wardrobe = wardrobe
        self.directions = sphere_directions(directions)
        lamps = [
            ((0.55, -0.75, 0.75), 9.0, (2.55, 2.35, 2.10)),
            ((-0.9, -0.45, 0.35), 4.0, (0.42, 0.50, 0.62)),
            ((-0.35, 0.95, 0.60), 8.0, (1.25, 1.25, 1.32)),
            ((0.0, 0.0, 1.0), 1.5, (0.62, 0.66, 0.72)),
            ((0.0, 0.0, -1.0), 1.5, (0.34, 0.31, 0.28)),
        ]
        radiance = np.full((directions, 3), 0.20)
        for axis, sharpness, colour in lamps:
            a = np.array(axis) / np.linalg.norm(axis)
            radiance += np.exp(sharpness * (self.directions @ a - 1))[:, None] * np.array(colour)
        self.radiance = 1.12 * radiance
        parts = wardrobe.surfaces
        counts = np.cumsum([0] + [s.cut.shape[0] for s in parts])
        self.triangles = np.concatenate([s.triangles + o for s, o in zip(parts, counts, strict=False)])
        self.part = np.concatenate(
            [np.full(len(s.triangles), n) for s, n in zip(parts, wardrobe.number, strict=True)]
        )
        self.scalars = np.concatenate([wardrobe.scalars(s) for s in parts])
        self.uv = np.concatenate(
            [np.zeros((len(s.triangles), 3, 2)) if s.uv is None else s.uv for s in parts]
        )

    def posed(self, base: FloatArray) -> FloatArray:
        """All rendered vertices (V, 3) for posed body vertices."""
        return np.concatenate([s.posed(base) for s in self.wardrobe.surfaces])

    def light(self, points: FloatArray) -> FloatArray:
        """Irradiance at each rendered vertex, (V, 3)."""
        normals = vertex_normals(points, self.triangles)
        return sky_irradiance(points, normals, self.triangles, self.directions, self.radiance)

    def picture(
        self, camera: Camera, points: FloatArray, light: FloatArray, supersampling: int
    ) -> tuple[FloatArray, FloatArray]:
        """sRGB color of the subject (H, W, 3) and its coverage (H, W), both 0..1."""
        n = supersampling
        local = points @ camera.w2c[:3, :3].T + camera.w2c[:3, 3]
        xy = (local[:, :2] / local[:, 2:] * np.diag(camera.k)[:2] + camera.k[:2, 2]) * n
        faces, bary, _ = rasterise(xy, 1 / local[:, 2], self.triangles, camera.height * n, camera.width * n)
        hit = faces >= 0
        f, b = faces[hit], bary[hit]
        weights = np.concatenate([1 - b.sum(axis=1, keepdims=True), b], axis=1)[..., None]
        corners = self.triangles[f]
        values = (self.scalars[corners] * weights).sum(axis=1)
        uv = (self.uv[f] * weights).sum(axis=1)
        lit = (light[corners] * weights).sum(axis=1)
        # The inside of a cuff or a hem is a back face: it gets little light.
        screen = xy[corners]
        turned = np.cross(screen[:, 1] - screen[:, 0], screen[:, 2] - screen[:, 0]) > 0
        lit = np.where(turned[:, None], 0.2 * lit, lit)
        linear = self.wardrobe.colour(self.part[f], values, uv) * lit
        out = np.zeros((*faces.shape, 3))
        out[hit] = _encode(linear)
        shape = (camera.height, n, camera.width, n)
        alpha = hit.reshape(shape).mean(axis=(1, 3))
        total = out.reshape(*shape, 3).mean(axis=(1, 3))
        return total / np.maximum(alpha, 1e-9)[..., None], alpha


def _encode(linear: FloatArray) -> FloatArray:
    """Linear light to sRGB with a soft shoulder above 0.8."""
    x = np.where(linear > 0.8, 1.0 - 0.2 * np.exp(-(linear - 0.8) / 0.2), linear)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
