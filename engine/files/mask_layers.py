"""What a mask file stores, whatever its format: values of one channel, and alpha where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .images import strips, use_image

Array = NDArray[Any]

# difference of an alpha channel's values up to which it is taken for constant, and of channels for gray
ALIKE, COLORED = 8, 40
# of floating-point values
LARGEST = 1e9
# part of the pixels from which colors count
SOME = 0.001


@dataclass(frozen=True, eq=False)
class MaskLayers:
    """What one mask file holds."""

    values: Array  # [H, W], uint8 where the file has no more: gray, the brightest channel, or palette indices
    alpha: Array | None = None  # [H, W] uint8
    kind: str = ""  # "palette", "colored", or "" for gray
    is_lossy: bool = False  # its values are not exactly those that were saved


def layers_of_pixels(pixels: Array) -> MaskLayers:
    """Layers of a decoded video frame [H, W, 3] uint8."""
    return _of_colors(*_brightest(pixels), None, is_lossy=True)


def load_layers(path: Path, name: str) -> MaskLayers:
    """Layers of an image file. InputError, naming `name`, where it cannot be read."""
    return use_image(path, name, _layers)


def alpha_varies(alpha: Array) -> bool:
    """Whether an alpha channel tells a subject from its background."""
    low, high = int(alpha.min()), int(alpha.max())
    return high - low > ALIKE or low == 0 < high


def _layers(image: Image.Image) -> MaskLayers:
    lossy = image.format == "JPEG"
    image.load()
    alpha = None
    if image.mode in ("La", "RGBa"):
        # colors of these are multiplied by alpha, and few conversions exist
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA", "PA") or (image.mode == "P" and "transparency" in image.info):
        has_channel = image.mode in ("LA", "RGBA")
        alpha = np.asarray((image if has_channel else image.convert("RGBA")).getchannel("A"))
    if image.mode == "P":
        return _of_palette(image, alpha)
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "F":
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(0, LARGEST)
        return MaskLayers(values, alpha, is_lossy=lossy)
    values, colored = np.empty((image.height, image.width), np.uint8), 0
    for top, strip in strips(image):
        values[top : top + strip.height], found = _brightest(np.asarray(strip.convert("RGB")))
        colored += found
    return _of_colors(values, colored, alpha, lossy)


def _brightest(pixels: Array) -> tuple[Array, int]:
    """The brightest channel of [H, W, 3], and how many pixels have a color."""
    values = pixels.max(axis=-1)
    return values, int(np.count_nonzero(values - pixels.min(axis=-1) > COLORED))


def _of_colors(values: Array, colored: int, alpha: Array | None, is_lossy: bool) -> MaskLayers:
    """The brightest channel counts: objects of label maps have colors, the background is black."""
    # noise of JPEG files has colors too
    kind = "colored" if colored > SOME * values.size else ""
    return MaskLayers(values, alpha, kind, is_lossy)


def _of_palette(image: Image.Image, alpha: Array | None) -> MaskLayers:
    """Gray values of a gray palette; else which pixels differ from the background, index 0 (DAVIS, VOC, YouTube-VOS).

    Programs that make PNG files smaller turn gray images into palettes of any order.
    """
    index = np.asarray(image)
    palette = np.zeros((256, 3), dtype=np.uint8)
    stored = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    palette[: len(stored)] = stored
    used = np.unique(index)
    gray = palette.max(axis=-1)
    if int((gray - palette.min(axis=-1)).max()) <= ALIKE and len(np.unique(gray[used])) == len(used):
        return MaskLayers(gray[index], alpha)
    black = [i for i in used.tolist() if not gray[i]]
    background = black[0] if gray[0] and black else 0
    return MaskLayers((index != background) * np.uint8(255), alpha, "palette")
