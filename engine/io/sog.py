"""Gaussians of one frame as `.sog` (bundled, version 2), the format that SuperSplat publishes: reading.

A zip of `meta.json` and lossless WebP images in which a pixel is a Gaussian, row by row. Positions are 16 bits per axis in
two images, on a scale of sign(x) ln(1 + |x|); rotations are their three smallest parts; scales and colors index a codebook
of 256 values, and higher harmonics a palette of up to 65,536 sets whose bytes index a codebook of their own. The axes are those
of a 3DGS `.ply`. `sog_writing` writes it.

Source: https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog/
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..files.archive import DAMAGED, check_archive
from ..files.images import check_size
from ..files.jsonfile import parse_json
from ..files.paths import printable
from ..scene import Gaussians, harmonics, rotations

META = "meta.json"
VERSION = 2
# values of a codebook, sets of harmonics in a row of the palette's image, and in the palette
CODES, IN_ROW, MOST_SETS = 256, 64, 1 << 16
# the alpha of a rotation whose largest part is w; x, y and z follow
LARGEST_IS_W = 252
# Gaussians, their bytes in the images, bytes that a file of any size may claim, and how many more for each of its own
MOST, BYTES, SMALL, PER_BYTE = 50_000_000, 20, 64 << 20, 20
# pixels that an image may have beyond one for each Gaussian
SPARE = 1 << 20
Bytes = NDArray[np.uint8]
Numbers = NDArray[np.float32]


def read_sog(path: Path | str) -> Gaussians:
    """Read a bundled .sog file.

    Args:
        path: The file.

    Returns:
        N Gaussians.

    Raises:
        InputError: The file is not a zip or holds a path that leads out of it, is of another version, lacks or contradicts
            what `meta.json` names, or claims more than it holds.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("IO-110", f"{printable(path.name)} is not a file; check the path.")
    entries = {entry.filename: entry for entry in check_archive(path)}
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(_Bundle(path, archive, entries))
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            "IO-111",
            f"{printable(path.name)} is a damaged .sog file ({printable(str(error))[:80]}); copy or export it again.",
        ) from error


@dataclass
class _Bundle:
    """An opened .sog file."""

    path: Path
    archive: zipfile.ZipFile
    entries: dict[str, zipfile.ZipInfo]
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    count: int = 0

    def wrong(self, what: str) -> InputError:
        return InputError("IO-113", f"{printable(self.path.name)}: {what}; export it again.")

    def bytes_of(self, name: Any) -> bytes:
        if not isinstance(name, str) or name not in self.entries:
            raise InputError(
                "IO-112",
                f"{printable(self.path.name)} lacks the file '{printable(str(name))[:60]}'; export it again as a bundled .sog.",
            )
        return self.archive.read(self.entries[name])

    def part(self, name: str) -> dict[str, Any]:
        found = self.meta.get(name)
        if not isinstance(found, dict):
            raise self.wrong(f"{META} has no part '{name}'")
        return found

    def numbers(self, part: str, key: str, count: int) -> Numbers:
        found = self.part(part).get(key)
        if (
            not isinstance(found, list)
            or len(found) != count
            or any(type(v) not in (int, float) for v in found)
        ):
            raise self.wrong(f"'{key}' of '{part}' does not consist of {count} numbers")
        values = np.array(found, np.float32)
        if not np.isfinite(values).all():
            raise self.wrong(f"'{key}' of '{part}' contains NaN or infinite values")
        return values

    def images(self, part: str, count: int) -> list[Bytes]:
        """The first N pixels [N, 4] of a part's images."""
        found = self.part(part).get("files")
        if not isinstance(found, list) or len(found) != count:
            raise self.wrong(f"'files' of '{part}' does not name {count} images")
        return [self.image(name)[: self.count] for name in found]

    def image(self, name: Any, size: tuple[int, int] | None = None) -> Bytes:
        """All pixels [W * H, 4] of an image; `size` is what it has to be, else it has to hold the Gaussians."""
        packed, label = self.bytes_of(name), f"{printable(str(name))[:60]} in {printable(self.path.name)}"
        try:
            with Image.open(io.BytesIO(packed), formats=("WEBP", "PNG")) as image:
                width, height = check_size(*image.size, label)
                if size is not None and (width, height) != size:
                    raise self.wrong(
                        f"'{name}' is {width} × {height} pixels instead of {size[0]} × {size[1]}"
                    )
                if size is None and not self.count <= width * height <= 4 * self.count + SPARE:
                    raise self.wrong(f"'{name}' has {width * height:,} pixels for {self.count:,} Gaussians")
                return np.asarray(image.convert("RGBA")).reshape(-1, 4)
        except InputError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(
                "IO-114", f"{label} is not a WebP or PNG image, or it is damaged; export the .sog again."
            ) from error


def _read(bundle: _Bundle) -> Gaussians:
    packed = bundle.bytes_of(META)
    try:
        meta = parse_json(packed)
    except ValueError as error:
        raise bundle.wrong(f"{META} cannot be read") from error
    if not isinstance(meta, dict) or meta.get("version") != VERSION:
        found = printable(str(meta.get("version", 1)))[:20] if isinstance(meta, dict) else "?"
        raise InputError(
            "IO-115",
            f"{printable(bundle.path.name)} is a .sog of version {found}, but version {VERSION} is supported; open it in "
            "SuperSplat and export it again.",
        )
    bundle.meta = meta
    bundle.count = _checked_count(bundle)
    colors = bundle.images("sh0", 1)[0]
    dc = bundle.numbers("sh0", "codebook", CODES)[colors[:, :3]]
    # half a step from 0 and 1, so that the logit stays finite
    opacity = torch.from_numpy(colors[:, 3] / np.float32(255)).clamp(1 / 1020, 1 - 1 / 1020)
    scales = bundle.numbers("scales", "codebook", CODES)[bundle.images("scales", 1)[0][:, :3]]
    return Gaussians(
        means=_means(bundle),
        log_scales=torch.from_numpy(scales),
        quats=rotations.normalise(torch.from_numpy(_rotations(bundle.images("quats", 1)[0]))),
        logit_opacities=opacity.logit(),
        sh=torch.cat([torch.from_numpy(dc)[:, None], _higher(bundle)], dim=1),
    )


def _checked_count(bundle: _Bundle) -> int:
    count, size, name = bundle.meta.get("count"), bundle.path.stat().st_size, printable(bundle.path.name)
    if type(count) is not int or not 0 < count <= MOST or BYTES * count > SMALL + PER_BYTE * size:
        raise InputError(
            "IO-116",
            f"{name} has {size:,} bytes but claims {printable(str(count))[:20]} Gaussians, which is impossible or more than can "
            "be read; export it again.",
        )
    shn = bundle.meta.get("shN")
    degree: Any = shn.get("bands") if isinstance(shn, dict) else 0
    bases = harmonics.bases(degree) if degree in range(harmonics.MAX_DEGREE + 1) else 1
    shortage = backends.shortage(BYTES * count + 4 * count * (11 + 3 * bases))
    if shortage:
        raise InputError(
            "IO-117",
            f"{name} has {count:,} Gaussians, which need {shortage}. Close other programs, or export fewer Gaussians.",
        )
    return count


def _means(bundle: _Bundle) -> Tensor:
    low, high = (image[:, :3].astype(np.uint32) for image in bundle.images("means", 2))
    first, last = (bundle.numbers("means", key, 3) for key in ("mins", "maxs"))
    logs = first + (last - first) * ((high << 8 | low) / np.float32(65535))
    if np.abs([first, last]).max() > 80:
        raise bundle.wrong("'mins' or 'maxs' of 'means' exceed what float32 holds")
    return torch.from_numpy((np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32))


def _rotations(packed: Bytes) -> Numbers:
    """Rotations wxyz [N, 4]: the largest part's number in the alpha, the other three in order, in -√½..√½."""
    largest = packed[:, 3].astype(np.int64) - LARGEST_IS_W
    is_valid = largest >= 0
    largest = largest.clip(0, 3)
    others = (packed[:, :3].astype(np.float32) / 255 - 0.5) * np.float32(2**0.5)
    result = np.zeros((len(packed), 4), np.float32)
    places = np.stack([np.delete(np.arange(4), i) for i in range(4)])[largest]
    np.put_along_axis(result, places, others, axis=1)
    rest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(axis=1, keepdims=True)))
    np.put_along_axis(result, largest[:, None], rest, axis=1)
    # an alpha below means that there is no rotation
    result[~is_valid] = (1, 0, 0, 0)
    return result


def _higher(bundle: _Bundle) -> Tensor:
    """Harmonics above degree 0 [N, K - 1, 3]."""
    if bundle.meta.get("shN") is None:
        return torch.zeros(bundle.count, 0, 3)
    part = bundle.part("shN")
    degree, sets, files = part.get("bands"), part.get("count"), part.get("files")
    if type(degree) is not int or not 0 <= degree <= harmonics.MAX_DEGREE:
        raise bundle.wrong(
            f"'bands' of 'shN' is {printable(str(degree))[:20]}, but 0 to {harmonics.MAX_DEGREE} are possible"
        )
    if degree == 0:
        return torch.zeros(bundle.count, 0, 3)
    # splat-transform gives a fraction for few Gaussians
    if not isinstance(sets, int | float) or not 0 < sets <= MOST_SETS:
        raise bundle.wrong(
            f"'count' of 'shN' is {printable(str(sets))[:20]}, but 1 to {MOST_SETS:,} are possible"
        )
    if not isinstance(files, list) or len(files) != 2:
        raise bundle.wrong("'files' of 'shN' does not name 2 images")
    return torch.from_numpy(_palette(bundle, files, harmonics.bases(degree) - 1))


def _palette(bundle: _Bundle, files: Sequence[Any], bases: int) -> Numbers:
    labels = bundle.image(files[1])[: bundle.count].astype(np.int64)
    labels = labels[:, 0] | labels[:, 1] << 8
    codes = bundle.numbers("shN", "codebook", CODES)
    rows = int(labels.max()) // IN_ROW + 1
    with_rows = _rows_of(bundle, files[0], rows)
    pixels = bundle.image(files[0], (IN_ROW * bases, with_rows))[:, :3]
    return codes[pixels.reshape(-1, bases, 3)[labels]]


def _rows_of(bundle: _Bundle, name: Any, least: int) -> int:
    """The height of the palette's image, if the labels fit into it."""
    packed = bundle.bytes_of(name)
    try:
        with Image.open(io.BytesIO(packed), formats=("WEBP", "PNG")) as image:
            height = image.size[1]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        # `image` says so
        return least
    if not least <= height <= MOST_SETS // IN_ROW:
        raise bundle.wrong(f"the palette of harmonics has {height} rows, but Gaussians use {least}")
    return height
