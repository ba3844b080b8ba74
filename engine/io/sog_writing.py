"""Gaussians of one frame as `.sog` (bundled, version 2): writing (`sog` has the layout, and reads it)."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..files.atomic import write_atomically
from ..scene import Gaussians
from .sog import IN_ROW, LARGEST_IS_W, META, MOST, MOST_SETS, VERSION
from .sog_codes import codebook, palette
from .writable import writable

# how hard lossless WebP tries: 0 to 100, and 0 to 6
QUALITY, METHOD = 75, 4
# Gaussians that do not share harmonics
FEW = 1024
Array = NDArray[Any]


def write_sog(gaussians: Gaussians, path: Path | str) -> Path:
    """Write the Gaussians of one frame, atomically. Where neighbors in space follow each other, the file is smallest.

    Positions are rounded to 1/65536 of the scene on a logarithmic scale, rotations and opacities to a byte, scales and
    colors to the nearest of 256 values, and higher harmonics to sets that similar Gaussians share.

    Args:
        gaussians: N Gaussians, at least one.
        path: The .sog file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: There are no Gaussians or too many, a value is not finite, or the file cannot be written.

    Example:
        >>> write_sog(scene.at(0.5), "frame.sog")
    """
    path = Path(path)
    g = writable(gaussians, path.name)
    if not 0 < len(g) <= MOST:
        raise InputError(
            "IO-118",
            f"{path.name} was not written: a .sog holds 1 to {MOST:,} Gaussians, but the scene has {len(g):,}. Export a .ply "
            "instead.",
        )
    files, meta = _files(g)
    with write_atomically(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, data in ((META, json.dumps(meta).encode()), *files.items()):
            # without a date: the same scene gives the same bytes
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def _files(g: Gaussians) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The images by name, and meta.json."""
    images: dict[str, Array] = {}
    low, high, first, last = _positions(g.means.double().numpy())
    images["means_l.webp"], images["means_u.webp"] = low, high
    images["quats.webp"] = _rotations(g.activated().quats.double().numpy())
    scales, images["scales.webp"] = codebook(g.log_scales.numpy())
    colors, own = codebook(g.sh[:, 0].numpy())
    opacity = np.rint(g.logit_opacities.double().sigmoid().numpy() * 255).astype(np.uint8)
    images["sh0.webp"] = np.concatenate([own, opacity[:, None]], axis=1)
    width, height = _size(len(g))
    meta: dict[str, Any] = {
        "version": VERSION,
        "asset": {"generator": "GS4D Studio"},
        "count": len(g),
        "means": {"mins": first, "maxs": last, "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": _numbers(scales), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": _numbers(colors), "files": ["sh0.webp"]},
    }
    packed: dict[str, bytes] = {}
    if g.sh_degree:
        names = ["shN_centroids.webp", "shN_labels.webp"]
        # [S, K - 1, 3] in rows of 64 sets
        sets, labels = palette(g.sh[:, 1:].reshape(len(g), -1).numpy(), _most_sets(len(g)))
        codes, own = codebook(sets)
        rows = -(-len(sets) // IN_ROW)
        packed[names[0]] = _webp(own.reshape(-1, 3), own.shape[1] // 3 * IN_ROW, rows)
        images[names[1]] = np.stack([labels & 255, labels >> 8, 0 * labels], axis=1).astype(np.uint8)
        meta["shN"] = {"count": len(sets), "bands": g.sh_degree, "codebook": _numbers(codes), "files": names}
    packed |= {name: _webp(values, width, height) for name, values in images.items()}
    return packed, meta


def _size(count: int) -> tuple[int, int]:
    """Width and height of images with a pixel for each Gaussian, multiples of four."""
    width = -(-(math.isqrt(count - 1) + 1) // 4) * 4
    return width, -(-count // (4 * width)) * 4


def _most_sets(count: int) -> int:
    """Sets of harmonics: the power of two below the Gaussians' number. A few Gaussians have one each, which costs little."""
    return max(FEW, min(MOST_SETS, 1 << (count.bit_length() - 1)))


def _positions(means: Array) -> tuple[Array, Array, list[float], list[float]]:
    """Low and high bytes [N, 3], and the smallest and largest values of each axis on the logarithmic scale."""
    logs = np.sign(means) * np.log1p(np.abs(means))
    # what readers have in float32 decides what the steps mean
    first, last = (bound.astype(np.float32).astype(np.float64) for bound in (logs.min(0), logs.max(0)))
    size = last - first
    steps = np.rint((logs - first) / np.where(size > 0, size, 1) * 65535).clip(0, 65535).astype(np.uint32)
    return (steps & 255).astype(np.uint8), (steps >> 8).astype(np.uint8), first.tolist(), last.tolist()


def _rotations(quats: Array) -> Array:
    """[N, 4]: the three smaller parts of wxyz, in -√½..√½, and which one is the largest."""
    largest = np.abs(quats).argmax(axis=1)[:, None]
    quats = quats * np.where(np.take_along_axis(quats, largest, 1) < 0, -1.0, 1.0)
    places = np.stack([np.delete(np.arange(4), i) for i in range(4)])[largest[:, 0]]
    others = np.take_along_axis(quats, places, 1)
    packed = np.rint((others / 2**0.5 + 0.5) * 255).clip(0, 255)
    return np.concatenate([packed, LARGEST_IS_W + largest], axis=1).astype(np.uint8)


def _webp(values: Array, width: int, height: int) -> bytes:
    """Pixels [N, 3 or 4], row by row, as a lossless image; those that are missing are zero."""
    channels = values.shape[1]
    pixels = np.zeros((height * width, channels), np.uint8)
    pixels[: len(values)] = values
    packed = io.BytesIO()
    image = Image.fromarray(pixels.reshape(height, width, channels))
    # exact keeps the colors of transparent pixels
    image.save(packed, "WEBP", lossless=True, exact=True, quality=QUALITY, method=METHOD)
    return packed.getvalue()


def _numbers(values: Array) -> list[float]:
    return [float(v) for v in values]
