"""Test images of subjects that are not used in training."""

from __future__ import annotations

import dataclasses
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from . import dataset, photographs, subjects
from .render import FloatArray

SHARED = Path(os.environ.get("GS4D_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SIZE = (256, 192)


def _frames(path: Path, numbers: tuple[int, ...]) -> list[FloatArray]:
    import av

    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24").astype(np.float32) / 255
                for i, f in enumerate(container.decode(video=0)) if i in numbers]  # fmt: skip


def clip(folder: Path, views: int = 4, frame: int = 7) -> list[dataset.Composition]:
    """Compositions from a capture folder with videos/ and masks/ on a uniform background, at their own size."""
    out = []
    names = sorted(p.stem for p in (folder / "videos").glob("*.mp4"))
    for name in names[:: max(1, len(names) // views)][:views]:
        x = _frames(folder / "videos" / f"{name}.mp4", (frame,))[0]
        m = _frames(folder / "masks" / f"{name}.mp4", (frame,))[0][..., 0]
        m = np.clip((m - 0.04) / 0.92, 0, 1)
        ground = np.median(x[m < 0.01], axis=0).astype(np.float32)
        background = np.broadcast_to(ground, x.shape)
        # Where coverage is low, the subject's color cannot be separated from the mixture: use the mixed color.
        colour = np.where(
            m[..., None] > 0.5, (x - (1 - m[..., None]) * background) / np.maximum(m[..., None], 0.5), x
        )
        h, w = x.shape[:2]
        size = (256, 256) if h == w else SIZE
        out.append(
            dataset.Composition(colour.clip(0, 1).astype(np.float32), m, background, False, size, "clip")
        )
    return out


def _vases(rng: np.random.Generator) -> list[dataset.Composition]:
    out = []
    for k in range(4):
        c = subjects.cutout(subjects.HELD_OUT_FAMILY, rng)
        colour, alpha, _ = dataset.place(c, rng, 256, 192)
        ground = np.full((256, 192, 3), (1.0, 0.92, 0.75, 0.5)[k], np.float32)
        out.append(dataset.Composition(colour, alpha, ground, False, SIZE, "lathe"))
    return out


def _saturated(rgb: FloatArray) -> FloatArray:
    """The same hues and values at a saturation (HSV) of at least 0.8; grays become red. rgb (H, W, 3), 0..1."""
    high = rgb.max(-1, keepdims=True)
    low = rgb.min(-1, keepdims=True)
    toned = np.where(high - low > 0.02, (rgb - low) / np.maximum(high - low, 1e-6), np.array([1.0, 0.0, 0.0]))
    share = np.maximum((high - low) / np.maximum(high, 1e-6), 0.8)
    return (high * (1 - share + share * toned)).astype(np.float32)


@cache
def compositions() -> dict[str, list[dataset.Composition]]:
    """robot, walker, talking, lathe, vivid and head (four each, plain background) and photograph (two)."""
    out: dict[str, list[dataset.Composition]] = {}
    robot = SHARED / "edits" / "robot" / "night" / "original"
    if (robot / "videos").is_dir():
        out["robot"] = clip(robot)
    walker = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker"
    if (walker / "videos").is_dir():
        out["walker"] = clip(walker)
    talking = Path(__file__).resolve().parents[2] / "assets" / "clips" / "head"
    if (talking / "videos").is_dir():
        out["talking"] = clip(talking)
    rng = np.random.default_rng(20260)
    lathes = _vases(rng)
    out["lathe"] = lathes
    out["vivid"] = [
        dataclasses.replace(c, colour=_saturated(c.colour)) for c in _vases(np.random.default_rng(20261))
    ]
    if (SHARED / "head_ict").is_dir():
        from . import meshes

        heads = []
        for k in range(4):
            colour, alpha, _ = dataset.place(meshes.head(rng, held_out=True), rng, 256, 256)
            ground = np.full((256, 256, 3), (1.0, 0.92, 0.7, 0.3)[k], np.float32)
            heads.append(dataset.Composition(colour, alpha, ground, False, (256, 256), "head"))
        out["head"] = heads
    photos = []
    for p in photographs.photographs(True):
        h, w = p.shape[:2]
        s = min(h, w)
        p = p[(h - s) // 2 : (h - s) // 2 + s, (w - s) // 2 : (w - s) // 2 + s]
        x = np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.LANCZOS), np.float32) / 255
        photos.append(
            dataset.Composition(x, np.zeros(x.shape[:2], np.float32), x, True, (256, 256), "photograph")
        )
    out["photograph"] = photos
    return out


REGION_SUBJECTS = ("faces", "avatar", "talking_head", "walker")


@cache
def region_compositions() -> dict[str, list[dataset.Composition]]:
    """Subjects with layers, four images each: faces of identity shapes that are never trained on, a head avatar's
    capture, and the demo captures of a head and of a walker. A subject whose data are missing is left out."""
    out: dict[str, list[dataset.Composition]] = {}
    clips = Path(__file__).resolve().parents[2] / "assets" / "clips"
    if (SHARED / "head_ict").is_dir():
        from . import painted

        rng = np.random.default_rng(20262)
        faces = []
        for k in range(4):
            colour, alpha, layers = dataset.place(painted.held_out(rng), rng, 256, 192)
            ground = np.full((256, 192, 3), (1.0, 0.92, 0.7, 0.3)[k], np.float32)
            faces.append(dataset.Composition(colour, alpha, ground, False, SIZE, "painted", layers))
        out["faces"] = faces
    from . import captures

    layouts = SHARED / "layouts"
    if (layouts / "head_A").is_dir():
        model = layouts / "head_model" / "head_model.npz"
        out["avatar"] = captures.head_capture(layouts / "head_A", model, ((2, 3), (8, 1), (13, 6), (20, 7)))
    if (clips / "talking_head").is_dir():
        from engine.io.heads import bundled_head

        chosen = ((2, 3), (8, 1), (14, 5), (20, 7))
        out["talking_head"] = captures.head_capture(clips / "talking_head", bundled_head(), chosen)
    if (clips / "walker").is_dir():
        try:
            out["walker"] = captures.walker(clip(clips / "walker"))
        except ImportError:
            print("without the walker: the package anny is not installed")
    return out


def pictures() -> dict[str, list[FloatArray]]:
    return {k: [c.picture() for c in v] for k, v in compositions().items()}
