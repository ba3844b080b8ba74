"""Image files: size known from the header before anything is decoded; then RGB and, where there is one, alpha."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from .paths import open_regular

Array = NDArray[Any]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "TGA")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".tga")
LARGEST_SIDE = 16000
# pixels; an 8K frame has 33 million
LARGEST_AREA = 150_000_000
# bytes at a file's end where its end mark is looked for
TAIL = 4096


def check_size(width: int, height: int, name: str) -> tuple[int, int]:
    """(width, height) again; InputError where no image of that size should be decoded."""
    if width < 1 or height < 1:
        raise InputError(
            "FIL-006", f"{name} is {width} × {height} pixels and contains no image. Export it again."
        )
    if max(width, height) > LARGEST_SIDE or width * height > LARGEST_AREA:
        raise InputError(
            "FIL-007",
            f"{name} is {width} × {height} pixels, more than the limit ({LARGEST_SIDE} per side, "
            f"{LARGEST_AREA // 10**6} million in total). Make it smaller first.",
        )
    return width, height


def image_size(path: Path, name: str) -> tuple[int, int]:
    """(width, height) from the header of an image; nothing is decoded.

    InputError, naming `name`, where the file is missing, empty, not an image, too large, or cut short.
    """
    size = use_image(path, name, _size)
    if not _has_end_mark(path):
        # settles it: some writers append bytes of their own
        _decode(path, name)
    return size


def read_image(path: Path, name: str, size: tuple[int, int]) -> tuple[Array, Array | None]:
    """RGB [H, W, 3] uint8 and alpha [H, W] uint8 or None, resampled to `size` (width, height) by area.

    Alpha is straight: colors stay as they are stored.
    """
    image = _decode(path, name)
    alpha = _carries_alpha(image)
    image = image.convert("RGBA" if alpha else "RGB")
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX)
    values = np.asarray(image)
    if not alpha:
        return values, None
    return np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3])


def read_gray(path: Path, name: str) -> Array:
    """The values [H, W] of an image of one channel as they are stored: 8, 16 or 32 bits, or floating point.

    InputError, naming `name`, where the file cannot be read or has several channels.
    """

    def load(image: Image.Image) -> Array:
        if not _is_gray(image):
            raise InputError(
                "FIL-088",
                f"{name} has several channels ({image.mode}), but one is expected. Export it as a gray image of 16 bits.",
            )
        image.load()
        return np.asarray(image)

    return use_image(path, name, load)


def _decode(path: Path, name: str) -> Image.Image:
    def load(image: Image.Image) -> Image.Image:
        image.load()
        if image.mode.startswith("I;16") or image.mode == "I":
            return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
        return image.copy() if image.mode != "P" else image

    return use_image(path, name, load)


def use_image(path: Path, name: str, use: Any) -> Any:
    """`use(image)` of the opened image, with every way a bad file fails turned into one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # a named pipe among the images would wait for its writer
            with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
                check_size(*image.size, name)
                return use(image)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            "FIL-008", f"{name} is missing. Restore it or remove it from the list of images."
        ) from error
    except Image.DecompressionBombError as error:
        check_size(*(_png_size(path) or (LARGEST_SIDE + 1, LARGEST_SIDE + 1)), name)
        raise InputError("FIL-009", f"{name} is too large to be read. Make it smaller first.") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError) as error:
        if path.is_file() and path.stat().st_size == 0:
            raise InputError("FIL-010", f"{name} is empty (0 bytes). Copy or export it again.") from error
        reason = "it is cut short" if "truncated" in str(error) else "it is damaged or is not an image"
        raise InputError("FIL-011", f"{name} cannot be read: {reason}. Copy or export it again.") from error


def _png_size(path: Path) -> tuple[int, int] | None:
    """What a PNG's header claims; only for the message about one that is too large."""
    with open(path, "rb") as file:
        start = file.read(24)
    return struct.unpack(">II", start[16:24]) if start[:4] == b"\x89PNG" and len(start) == 24 else None


def _has_end_mark(path: Path) -> bool:
    """Whether a PNG or JPEG ends as one should; True for formats without an end mark to look for."""
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL))
        end = file.read(TAIL)
    if start == b"\x89PNG":
        return b"IEND" in end
    return not start.startswith(b"\xff\xd8") or b"\xff\xd9" in end


def has_alpha(path: Path, name: str) -> bool:
    """Whether an image carries an alpha channel, from its header."""
    return bool(use_image(path, name, _carries_alpha))


def has_one_channel(path: Path, name: str) -> bool:
    """Whether `read_gray` reads an image, from its header."""
    return bool(use_image(path, name, _is_gray))


def _is_gray(image: Image.Image) -> bool:
    return image.mode in ("L", "I", "F") or image.mode.startswith("I;16")


def _carries_alpha(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _size(image: Image.Image) -> tuple[int, int]:
    return image.size
