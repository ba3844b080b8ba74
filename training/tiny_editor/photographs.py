"""Photographs bundled with packages, as backgrounds and as images of their own, and procedural backgrounds."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .render import FloatArray, hsv, noise, random_colour

_TRAIN = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "ihc.png", "retina.jpg")
_GREY = ("brick.png", "grass.png", "gravel.png", "coins.png", "moon.png", "camera.png")
EXTRA = Path(os.environ["TINY_EDITOR_PHOTOGRAPHS"]) if "TINY_EDITOR_PHOTOGRAPHS" in os.environ else None
"""A folder of more photographs for training."""
HELD_OUT_PHOTOGRAPHS = ("astronaut.png", "flower.jpg")


def _folders() -> list[Path]:
    import skimage
    import sklearn.datasets

    return [Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"]


def _read(path: Path) -> NDArray[np.uint8]:
    image = Image.open(path).convert("RGB")
    image.thumbnail((900, 900), Image.Resampling.LANCZOS)
    return np.asarray(image)


@cache
def photographs(held_out: bool = False, extra: Path | None = None) -> list[NDArray[np.uint8]]:
    """Images (H, W, 3). extra: a folder of more images for training."""
    skimage, sklearn = _folders()
    if held_out:
        return [
            _read(next(f / n for f in (skimage, sklearn) if (f / n).exists())) for n in HELD_OUT_PHOTOGRAPHS
        ]
    out = [_read(skimage / n) for n in _TRAIN] + [_read(sklearn / "china.jpg")]
    out += [_read(skimage / n) for n in _GREY]
    if extra and extra.is_dir():
        out += [
            _read(p)
            for p in sorted(extra.iterdir())
            if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
        ]
    return out


def crop(
    picture: NDArray[np.uint8], rng: np.random.Generator, height: int, width: int, zoom: float
) -> FloatArray:
    """A random crop of an image at (height, width); zoom 1 takes the largest possible crop."""
    h, w = picture.shape[:2]
    scale = min(h / height, w / width) / zoom
    ch, cw = min(h, max(8, round(height * scale))), min(w, max(8, round(width * scale)))
    y, x = rng.integers(0, h - ch + 1), rng.integers(0, w - cw + 1)
    image = Image.fromarray(np.ascontiguousarray(picture[y : y + ch, x : x + cw]))
    out = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    return out[:, ::-1] if rng.random() < 0.5 else out


def jitter(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A photograph with another exposure, contrast and tint; some tinted from gray."""
    if np.ptp(x, axis=-1).max() < 0.02 and rng.random() < 0.7:
        x = x[..., :1] * (0.4 + 0.6 * random_colour(rng))[None, None] + rng.uniform(0, 0.1)
    gain = rng.uniform(0.7, 1.2) * (1 + 0.08 * rng.normal(size=3))
    x = np.clip(x * gain, 0, 1) ** rng.uniform(0.7, 1.4)
    grey = x.mean(axis=-1, keepdims=True)
    x = grey + (x - grey) * rng.uniform(0.3, 1.4)
    if rng.random() < 0.25:
        x = x[..., rng.permutation(3)]
    return np.clip(x, 0, 1).astype(np.float32)


def photograph(
    rng: np.random.Generator, height: int, width: int, held_out: bool = False, extra: Path | None = None
) -> FloatArray:
    pictures = photographs(held_out, extra)
    shipped = len(_TRAIN) + 1 + len(_GREY)
    # The additional photographs are many but soft: two in five images use the bundled ones.
    few = not held_out and len(pictures) > shipped and rng.random() < 0.4
    picture = pictures[rng.integers(shipped if few else len(pictures))]
    if held_out:
        return crop(picture, rng, height, width, 1.0)
    x = crop(picture, rng, height, width, float(rng.choice([1.0, 1.3, 1.8, 2.5])))
    return jitter(x, rng) if rng.random() < 0.8 else x


def ground(
    rng: np.random.Generator, height: int, width: int, extra: Path | None = None
) -> tuple[FloatArray, bool]:
    """A background (H, W, 3) and whether it is a photograph or busy (True) or plain (False)."""
    kind = rng.random()
    flat = np.ones((height, width, 3), np.float32)
    if kind < 0.22:
        return flat, False
    if kind < 0.46:  # a pale or gray wall
        return flat * hsv(rng.random(), rng.uniform(0, 0.08), rng.uniform(0.5, 1.0)).astype(np.float32), False
    if kind < 0.52:
        return flat * np.float32(rng.choice([0.0, 0.04, 0.1])), False
    if kind < 0.63:
        return flat * random_colour(rng).astype(np.float32), False
    if kind < 0.80:  # a soft gradient between two similar colors
        a = (
            random_colour(rng)
            if rng.random() < 0.4
            else hsv(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.4, 1))
        )
        b = np.clip(a + rng.normal(size=3) * 0.06 + rng.normal() * 0.16, 0, 1)
        y, x = np.mgrid[0:height, 0:width]
        t = rng.uniform(0, 2 * np.pi)
        s = np.cos(t) * (x / width - 0.5) + np.sin(t) * (y / height - 0.5)
        if rng.random() < 0.4:
            s = np.hypot(x / width - rng.uniform(0.2, 0.8), y / height - rng.uniform(0.2, 0.8)) - 0.5
        w = np.clip(s + 0.5, 0, 1)[..., None]
        return (a + (b - a) * w).astype(np.float32), False
    if kind < 0.96:
        return photograph(rng, height, width, extra=extra), True
    y, x = np.mgrid[0:height, 0:width]
    p = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1) / height * rng.uniform(4, 30)
    w = np.clip(0.5 + 0.7 * noise(p, int(rng.integers(999))), 0, 1).reshape(height, width, 1)
    a, b = random_colour(rng), random_colour(rng)
    return (a + (b - a) * w).astype(np.float32), True
