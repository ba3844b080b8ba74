"""Cut-outs on disk (the bank), and compositions of them with backgrounds: images with exact edits.

python -m training.tiny_editor.dataset procedural --out BANK --count 3000
python -m training.tiny_editor.dataset bodies|heads|painted|splats --out BANK --count 1000
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import edits, photographs, regions, subjects
from .render import FloatArray, hsv

SHARD = 50
LEAST_COVERED = 0.0025
"""Share of an image that an edit of a part must change to be trained on."""


def _save(path: Path, array: NDArray[np.uint8]) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    os.replace(partial, path)


def build(kind: str, out: Path, count: int, seed: int) -> None:
    """Write shards of SHARD cut-outs (SHARD, 256, 256, 4 or more) until there are count; resumes where it stopped."""
    out.mkdir(parents=True, exist_ok=True)
    if kind == "procedural":

        def make(rng: np.random.Generator) -> NDArray[np.uint8]:
            family = subjects.FAMILIES[rng.choice(len(subjects.FAMILIES), p=[0.1, 0.2, 0.22, 0.28, 0.1, 0.1])]
            return subjects.cutout(family, rng)
    elif kind == "painted":
        from . import painted

        source = painted.heads()
        make = lambda rng: next(source)  # noqa: E731
    else:
        from . import meshes

        make = meshes.maker(kind)
    start = time.time()
    for shard in range((count + SHARD - 1) // SHARD):
        path = out / f"{kind}_{seed:02d}_{shard:03d}.npy"
        if path.exists():
            continue
        rng = np.random.default_rng([seed, shard])
        made: list[NDArray[np.uint8]] = []
        while len(made) < SHARD:
            picture = make(rng)
            if (picture[..., 3] > 127).mean() > 0.01:
                made.append(picture)
        _save(path, np.stack(made))
        print(f"{path.name}  {time.time() - start:.0f} s", flush=True)


class Bank:
    """All cut-outs of a folder, read on demand; new shards are picked up from time to time."""

    def __init__(self, folder: Path, share: dict[str, float]):
        self.folder, self.share = folder, share
        self.shards: dict[str, list[NDArray[np.uint8]]] = {}
        self.names: set[str] = set()
        self.looked = 0.0
        self.look()

    def look(self) -> None:
        if time.time() - self.looked < 60:
            return
        self.looked = time.time()
        for path in sorted(self.folder.glob("*.npy")):
            kind = path.name.split("_")[0]
            if path.name not in self.names and kind in self.share and ".partial" not in path.name:
                self.names.add(path.name)
                self.shards.setdefault(kind, []).append(np.load(path, mmap_mode="r"))

    def draw(self, rng: np.random.Generator) -> tuple[str, NDArray[np.uint8]]:
        self.look()
        kinds = sorted(self.shards)
        p = np.array([self.share[k] for k in kinds])
        kind = kinds[rng.choice(len(kinds), p=p / p.sum())]
        shard = self.shards[kind][rng.integers(len(self.shards[kind]))]
        return kind, np.asarray(shard[rng.integers(len(shard))])


@dataclass
class Composition:
    """An image in layers, possibly at a lower resolution than the final one (`size`)."""

    colour: FloatArray
    alpha: FloatArray
    background: FloatArray
    busy: bool
    size: tuple[int, int]
    kind: str
    layers: FloatArray | None = None

    def edits(self) -> list[str]:
        """Names of the edits with a ground truth: a photograph alone has no subject to recolor."""
        if self.kind == "photograph":
            return list(edits.GLOBAL)
        return [*edits.FUNCTIONS, *self.region_edits()]

    def region_edits(self) -> list[str]:
        """Names of the edits of a part or of a pattern that change enough of the image."""
        if self.layers is None:
            return []
        return [n for n in regions.NAMES if regions.covered(n, self.layers, self.alpha) > LEAST_COVERED]

    def _layers(self) -> FloatArray:
        if self.layers is None:
            raise ValueError("a composition without layers has only edits of the whole subject")
        return self.layers

    def picture(self, name: str = "none") -> FloatArray:
        """The (edited) image (H, W, 3) at its final size, 0..1 float32."""
        if name in regions.NAMES:
            colour = regions.apply(name, self.colour, self._layers())
            out = edits.apply("none", np.clip(colour, 0, 1), self.alpha, self.background)
        elif name == "none" or not self.busy or name not in edits.GLOBAL:
            out = edits.apply(name, self.colour, self.alpha, self.background)
        else:
            whole = edits.apply("none", self.colour, self.alpha, self.background)
            out = np.clip(edits.FUNCTIONS[name](whole), 0, 1)
        if out.shape[:2] != self.size:
            bytes_ = (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
            image = Image.fromarray(bytes_).resize(self.size[::-1], Image.Resampling.BICUBIC)
            return np.asarray(image, np.float32) / 255
        return out.astype(np.float32)


def recolour(rgb: FloatArray, rng: np.random.Generator, strength: float) -> FloatArray:
    """Rotate hues, scale saturation and contrast. rgb (H, W, 3), 0..1."""
    high, low = rgb.max(-1), rgb.min(-1)
    span = np.maximum(high - low, 1e-6)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = (
        np.where(high == r, ((g - b) / span) % 6, np.where(high == g, (b - r) / span + 2, (r - g) / span + 4))
        / 6
    )
    hue = (hue + rng.normal() * strength) % 1.0
    s = np.clip(
        np.where(high > 1e-6, span / np.maximum(high, 1e-6), 0) * rng.choice([0.3, 0.7, 1, 1.3, 1.7]), 0, 1
    )
    v = np.clip(high * rng.uniform(0.7, 1.35), 0, 1) ** rng.uniform(0.6, 1.5)
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    return (v[..., None] * (1 - s[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))).astype(np.float32)


def place(
    cutout: NDArray[np.uint8], rng: np.random.Generator, height: int, width: int
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Color, coverage and layers (None without) of a cut-out in an empty image: 40-95 % of its height, some closer."""
    rows, columns = np.flatnonzero(cutout[..., 3].max(1)), np.flatnonzero(cutout[..., 3].max(0))
    c = cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    if rng.random() < 0.5:
        c = c[:, ::-1]
    alpha = c[..., 3:4] / 255
    whole = np.concatenate([c[..., :3] * alpha, c[..., 3:4], c[..., 4:] * alpha], -1)
    bands = [Image.fromarray(b) for b in np.moveaxis(whole.clip(0, 255).astype(np.uint8), -1, 0)]
    if rng.random() < 0.25:
        angle = float(rng.normal() * 8)
        bands = [b.rotate(angle, Image.Resampling.BICUBIC, expand=True) for b in bands]
    h, w = bands[0].size[::-1]
    share = rng.uniform(0.4, 0.95) if rng.random() < 0.85 else rng.uniform(0.95, 1.6)
    scale = share * min(height / h, width / w * (1.0 if share < 1 else 1.5))
    th, tw = max(8, round(h * scale)), max(8, round(w * scale))
    resized = np.stack(
        [
            np.asarray(b.resize((tw, th), Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC))
            for b in bands
        ],
        -1,
    ).astype(np.float32)
    out = np.zeros((height, width, len(bands)), np.float32)
    spare_y, spare_x = height - th, width - tw
    y = int(spare_y * rng.uniform(0.2, 0.8)) if spare_y >= 0 else int(spare_y * rng.uniform(0, 1))
    x = int(spare_x * rng.uniform(0.15, 0.85)) if spare_x >= 0 else int(spare_x * rng.uniform(0.2, 0.8))
    y0, x0, y1, x1 = max(0, y), max(0, x), min(height, y + th), min(width, x + tw)
    out[y0:y1, x0:x1] = resized[y0 - y : y1 - y, x0 - x : x1 - x]
    a = out[..., 3] / 255
    straight = np.where(a[..., None] > 1e-3, out / 255 / np.maximum(a[..., None], 1e-3), 0).clip(0, 1)
    return straight[..., :3], a, straight[..., 4:].astype(np.float32) if len(bands) > 4 else None


def compose(
    bank: Bank, rng: np.random.Generator, size: tuple[int, int], extra: Path | None = None, bare: float = 0.1
) -> Composition:
    """A random training image of size (H, W)."""
    soft = float(rng.uniform(0.62, 0.9)) if rng.random() < 0.6 else 1.0
    height, width = (max(16, round(s * soft)) for s in size)
    if rng.random() < bare:
        x = photographs.photograph(rng, height, width, extra=extra)
        return Composition(x, np.zeros((height, width), np.float32), x, True, size, "photograph")
    kind, cutout = bank.draw(rng)
    colour, alpha, layers = place(cutout, rng, height, width)
    if rng.random() < (0.5 if kind in ("procedural", "splats") else 0.25):
        colour = recolour(colour, rng, 0.05 if kind in ("heads", "painted") else 0.3)
    elif rng.random() < 0.5:
        colour = np.clip(colour * rng.uniform(0.7, 1.25) * (1 + 0.05 * rng.normal(size=3)), 0, 1)
    background, busy = photographs.ground(rng, height, width, extra=extra)
    if busy and rng.random() < 0.15:  # a subject that is a flat cut-out in the photograph's colors
        background = background * np.float32(0.8) + np.float32(0.2) * hsv(rng.random(), 0.2, 0.8).astype(
            np.float32
        )
    return Composition(colour.astype(np.float32), alpha, background, busy, size, kind, layers)


def draw_edit(composition: Composition, rng: random.Random) -> str:
    names = composition.edits()
    return rng.choices(names, [edits.WEIGHTS[n] for n in names])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["procedural", "bodies", "heads", "painted", "splats"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    build(args.kind, args.out, args.count, args.seed)


if __name__ == "__main__":
    main()
