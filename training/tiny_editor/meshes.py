"""Cut-outs of bodies (anny), heads (ICT-FaceKit) and three captured splats.

The bodies wear the wardrobe of the demo capture in other colors and patterns, with other shapes and poses; no frame
of the demo capture itself is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from . import body_layers
from .render import FloatArray, hsv, pattern, random_colour, shade

SHARED = Path(os.environ.get("GS4D_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
Picture = NDArray[np.uint8]


def _linear(srgb: FloatArray) -> FloatArray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _skin(rng: np.random.Generator) -> FloatArray:
    tone = rng.random()
    a, b = np.array([0.97, 0.82, 0.72]), np.array([0.27, 0.16, 0.11])
    return np.clip(a + (b - a) * tone**1.3 + rng.normal(size=3) * 0.02, 0.02, 1)


def _pose(figure: object, motion: object, rng: np.random.Generator, close: bool) -> FloatArray:
    """Body vertices in a random pose: a frame of the walk or of the speech with every joint perturbed."""
    kept: dict[str, FloatArray] = {}
    real = figure.pose

    def disturbed(rotations: dict[str, FloatArray], face: dict[str, float] | None = None) -> object:
        amount = {
            "upperarm01": 40,
            "lowerarm01": 30,
            "upperleg01": 14,
            "lowerleg01": 10,
            "spine": 6,
            "head": 9,
            "neck": 5,
        }
        scale = float(rng.choice([0.2, 0.6, 1.0])) * (0.4 if close else 1.0)
        for name in list(rotations):
            for prefix, degrees in amount.items():
                if name.startswith(prefix):
                    turn = Rotation.from_rotvec(np.radians(rng.normal(size=3) * degrees * scale)).as_matrix()
                    rotations[name] = turn @ rotations[name]
        face = {k: float(v) for k, v in (face or {}).items()}
        for name in ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp", "mouthPucker"):
            if rng.random() < 0.3:
                face[name] = float(rng.uniform(0, 0.7))
        return real(rotations, face)

    figure.pose = disturbed
    try:
        kept["v"] = (motion.talk if close else motion.walk)(
            figure, float(rng.random()), float(rng.integers(1, 3))
        )[0]
    finally:
        figure.pose = real
    return kept["v"]


def _dress(wardrobe_module: object, wardrobe: object, rng: np.random.Generator) -> None:
    """New colors for every part; sometimes a pattern instead of the shirt and trousers."""
    w, colour = wardrobe_module, lambda: _linear(random_colour(rng))
    skin = _skin(rng)
    w._SKIN = _linear(skin)
    w._BLUSH, w._LIP = _linear(skin * [0.97, 0.8, 0.78]), _linear(skin * [0.82, 0.52, 0.52])
    hair = (
        hsv(rng.uniform(0.02, 0.13), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.8))
        if rng.random() < 0.8
        else random_colour(rng)
    )
    w._HAIR_DARK, w._HAIR_LIGHT, w._BROW = _linear(hair * 0.55), _linear(hair), _linear(hair * 0.5)
    for name in (
        "_DENIM",
        "_STITCH",
        "_CREAM",
        "_STRIPE",
        "_COLLAR",
        "_PATCH",
        "_BRASS",
        "_SHOE_COLOUR",
        "_SOLE",
        "_LACE",
    ):
        setattr(w, name, colour())
    w._DENIM_LIGHT = w._DENIM * 1.5 + 0.05
    if rng.random() < 0.3:
        w._STRIPE = w._CREAM
    w._SOCK = w._PATCH if rng.random() < 0.5 else colour()
    wardrobe.__dict__.pop("_suit", None)
    if rng.random() < 0.4:
        seed, waist = int(rng.integers(1 << 30)), wardrobe.hip[2] + 0.125

        def suit(p: FloatArray, arm: FloatArray, uv: FloatArray) -> FloatArray:
            upper = (p[:, 2] > waist) | (arm > 0.4)
            r = np.random.default_rng(seed)
            q = p * 2.2 - 2
            return _linear(np.clip(np.where(upper[:, None], pattern(q, r), pattern(q, r)), 0, 1))

        suit.is_shirt = lambda p, arm: (p[:, 2] > waist) | (arm > 0.4)
        wardrobe._suit = suit


def bodies() -> Iterator[Picture]:
    from training.demo_clip import figure as figure_module
    from training.demo_clip import motion, picture
    from training.demo_clip import wardrobe as wardrobe_module

    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    while True:
        close = rng.random() < 0.25
        phenotype = {
            "gender": float(rng.random()), "age": float(rng.uniform(0.35, 0.95)), "muscle": float(rng.uniform(0.2, 0.9)),
            "weight": float(rng.uniform(0.15, 0.9)), "height": float(rng.uniform(0.2, 0.8)),
            "proportions": float(rng.uniform(0.2, 0.95)),
        }  # fmt: skip
        figure = figure_module.Figure(phenotype)
        wardrobe = wardrobe_module.Wardrobe(figure, close_up=close)
        studio = picture.Studio(wardrobe, 40)
        for _ in range(5):
            radiance = np.full((40, 3), rng.uniform(0.1, 0.4))
            for _ in range(rng.integers(2, 6)):
                a = rng.normal(size=3) + np.array([0, -0.3, 0.4])
                lamp = np.exp(rng.uniform(2, 9) * (studio.directions @ (a / np.linalg.norm(a)) - 1))
                radiance += lamp[:, None] * rng.uniform(0.3, 2.2) * (1 + 0.12 * rng.normal(size=3))
            studio.radiance = radiance / radiance.mean() * rng.uniform(0.45, 0.95)
            base = _pose(figure, motion, rng, close)
            base[:, 2] -= base[:13380, 2].min()
            points = studio.posed(base)
            light = studio.light(points)
            head = points[:, 2].max()
            for _ in range(4):
                _dress(wardrobe_module, wardrobe, rng)
                a, e = rng.uniform(0, 2 * np.pi), np.radians(np.clip(rng.normal() * 18 + 12, -15, 65))
                offset = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
                if close:
                    a = rng.normal() * 0.9 - np.pi / 2
                    offset = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
                    target, distance, span = np.array([0, 0, head - 0.13]), 1.25, rng.uniform(0.34, 0.7)
                else:
                    target, distance, span = np.array([0, 0, head / 2]), rng.uniform(2.8, 5), head * 1.12
                camera = picture.look_at("c", (256, 256), target + distance * offset, target, span)
                colour, alpha = studio.picture(camera, points, light, 2)
                layers = body_layers.of(wardrobe_module, studio, camera, points)
                whole = np.concatenate([colour, alpha[..., None], layers], -1)
                yield (whole * 255).clip(0, 255).astype(np.uint8)


@cache
def _kit() -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64], FloatArray, FloatArray]:
    """Template (V, 3), triangles, part of each triangle, identity and expression shapes (N, V, 3); z up, facing -y."""
    data = np.load(SHARED / "head_ict" / "ict_facekit_f16.npz")
    turn, sign = [0, 2, 1], np.array([1.0, -1.0, 1.0])
    faces = data["faces"].astype(np.int64)
    part = np.zeros(len(faces), np.int64)
    corner = faces[:, 0]
    # Vertex ranges of the kit: head and neck, mouth, eye sockets, gums, teeth, eyeballs, lashes; 0 is the face.
    ranges = ((9409, 11248), (11248, 13294), (13294, 13678), (13678, 14062), (14062, 17039), (17039, 21451),
              (21451, 24591), (24591, 26719))  # fmt: skip
    for number, (first, end) in enumerate(ranges, 1):
        part[(corner >= first) & (corner < end)] = number
    identity, expression = (data[k].astype(np.float32)[:, :, turn] * sign for k in ("id_deltas", "ex_deltas"))
    return data["v_template"].astype(np.float64)[:, turn] * sign, faces, part, identity, expression


def head(rng: np.random.Generator, held_out: bool = False) -> Picture:
    """One ICT-FaceKit head. The last ten identity shapes are only used for held-out heads."""
    template, faces, part, identity, expression = _kit()
    weights = rng.normal(size=len(identity)) * (1.4 if held_out else 0.9)
    weights[: -10 if held_out else None] *= float(not held_out)
    weights[-10:] *= float(held_out)
    e = np.zeros(len(expression))
    e[rng.integers(0, len(e), 5)] = rng.uniform(0, 0.8, 5)
    posed = template + np.tensordot(weights, identity, 1) + np.tensordot(e, expression, 1)
    skin = _skin(rng) if held_out or rng.random() < 0.7 else random_colour(rng)
    ones = np.ones_like(posed)
    scalp = ones * skin
    if held_out or rng.random() < 0.5:
        high, back = np.quantile(posed[:9409, 2], 0.55), posed[:9409, 1].min() + 5
        scalp = np.where(((posed[:, 2] > high) & (posed[:, 1] > back))[:, None], random_colour(rng), skin)
    colour = {0: ones * skin, 1: scalp, 2: ones * skin * 0.6, 3: ones * skin * 0.7, 4: ones * [0.7, 0.35, 0.33],
              5: ones * [0.92, 0.9, 0.84], 6: ones * [0.9, 0.88, 0.86], 7: ones * skin * 0.4, 8: ones * 0.12}  # fmt: skip
    if not held_out and rng.random() < 0.25:  # or a pattern over everything
        colour.pop(0)
        colour.pop(1)
    rest = (posed - posed.mean(0)) / np.abs(posed - posed.mean(0)).max()
    return shade(posed, faces, part, rest, colour, rng, azimuth=float(-90 + rng.normal() * 50),
                 elevation=float(rng.normal() * 14 + 4))  # fmt: skip


def heads() -> Iterator[Picture]:
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    while True:
        yield head(rng)


def splats() -> Iterator[Picture]:
    """Plant (CC-BY-4.0 Marcel Padilla), cat (CC-BY-4.0, mesh by billyd), koala (CC-BY-3.0, mesh by YahooJAPAN)."""
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    clouds = []
    for path in sorted((SHARED / "splats").glob("*.splat")):
        raw = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 32)
        clouds.append((raw[:, :12].copy().view(np.float32).astype(float), raw[:, 12:24].copy().view(np.float32).astype(float),
                       raw[:, 24:28].astype(float) / 255))  # fmt: skip
    while True:
        yield _splat(*clouds[rng.integers(len(clouds))], rng)


def _splat(
    centre: FloatArray, scale: FloatArray, rgba: FloatArray, rng: np.random.Generator, size: int = 256
) -> Picture:
    """Isotropic footprints, sorted by depth and painted back to front."""
    p = centre - np.median(centre, 0)
    p = p * np.array([1, -1, 1])
    a, e = rng.uniform(0, 2 * np.pi), np.radians(rng.normal() * 12 + 8)
    forward = -np.array([np.cos(a) * np.cos(e), np.sin(e), np.sin(a) * np.cos(e)])
    right = np.cross([0, 1.0, 0], forward)
    right /= np.linalg.norm(right)
    local = p @ np.stack([right, -np.cross(forward, right), forward]).T
    reach = np.quantile(np.abs(local[:, :2]), 0.985)
    xy = local[:, :2] / reach * size * 0.44 + size / 2
    radius = np.clip(np.exp(np.log(np.maximum(scale, 1e-9)).mean(1)) / reach * size * 0.44 * 1.5, 0.7, 14)
    out, cover = np.zeros((size, size, 3)), np.zeros((size, size))
    for i in np.argsort(-local[:, 2]):
        x, y, r = xy[i, 0], xy[i, 1], radius[i]
        x0, x1, y0, y1 = (
            int(max(0, x - 2 * r)),
            int(min(size, x + 2 * r + 1)),
            int(max(0, y - 2 * r)),
            int(min(size, y + 2 * r + 1)),
        )
        if x0 >= x1 or y0 >= y1:
            continue
        d = ((np.arange(x0, x1) + 0.5 - x)[None] ** 2 + (np.arange(y0, y1) + 0.5 - y)[:, None] ** 2) / (
            2 * (r * 0.8) ** 2
        )
        w = rgba[i, 3] * np.exp(-d)
        out[y0:y1, x0:x1] = out[y0:y1, x0:x1] * (1 - w[..., None]) + rgba[i, :3] * w[..., None]
        cover[y0:y1, x0:x1] = cover[y0:y1, x0:x1] * (1 - w) + w
    colour = out / np.maximum(cover, 1e-6)[..., None]
    return (np.concatenate([colour, cover[..., None]], -1) * 255).clip(0, 255).astype(np.uint8)


def maker(kind: str) -> Callable[[np.random.Generator], Picture]:
    source = {"bodies": bodies, "heads": heads, "splats": splats}[kind]()
    return lambda rng: next(source)
