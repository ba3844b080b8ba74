"""Image files: size known from the header before anything is decoded; then RGB and, where there is one, alpha."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..wording import shown
from .folders import natural_key, visible
from .foreign_images import SUFFIXES as FOREIGN_SUFFIXES
from .foreign_images import foreign_format
from .paths import open_regular
from .samples import LOOKED_AT, spread_first
from .value_range import white_of_values

Array = NDArray[Any]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "TGA")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".tga")
LARGEST_SIDE = 16000
# pixels, of 4 bytes each while an image is decoded; a 12K frame has 80 million
LARGEST_AREA = 80_000_000
# pixels that are converted at a time
STRIP = 1 << 20
# endings of files that may hold floating point or whole numbers of 32 bits
UNSCALED = (".tif", ".tiff", ".ppm")
# values of an image that are looked at for its range
SEEN = 100_000
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
        use_image(path, name, Image.Image.load)
    return size


def read_image(
    path: Path, name: str, size: tuple[int, int], white: float | None = None
) -> tuple[Array, Array | None]:
    """RGB [H, W, 3] uint8 and alpha [H, W] uint8 or None, resampled to `size` (width, height) by area.

    Alpha is straight: colors stay as they are stored. `white` is what `white_of_images` found out over all images.
    """

    def load(image: Image.Image) -> Array:
        image.load()
        narrow = _narrower(image, name, white)
        mode = "RGBA" if _carries_alpha(image) and narrow is None else "RGB"
        if image.size == size:
            return pixels(image, mode, narrow=narrow)
        image = image if narrow is None else narrow(image)
        image = image if image.mode == mode else image.convert(mode)
        return np.asarray(image.resize(size, Image.Resampling.BOX))

    values = use_image(path, name, load)
    if values.shape[2] == 3:
        return values, None
    return np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3])


def pixels(
    image: Image.Image,
    mode: str,
    factor: int = 1,
    narrow: Callable[[Image.Image], Image.Image] | None = None,
) -> Array:
    """A loaded image as [H, W, C] uint8: Pillow's own conversion and NumPy's would both hold all pixels once more.

    Args:
        image: The image.
        mode: "RGB" or "RGBA".
        factor: What each side is divided by (means of blocks).
        narrow: What makes strips of 8 bits per channel, where the image has more.
    """
    width, height = image.size
    result = np.empty((-(-height // factor), -(-width // factor), len(mode)), np.uint8)
    for top, strip in strips(image, factor):
        strip = strip if narrow is None else narrow(strip)
        strip = strip if strip.mode == mode else strip.convert(mode)
        strip = strip if factor == 1 else strip.reduce(factor)
        result[top // factor : top // factor + strip.height] = np.asarray(strip)
    return result


def strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Parts of an image as wide as it is, and the row that each begins at, which is a multiple of `factor`."""
    width, height = image.size
    step = factor * max(1, STRIP // (width * factor))
    for top in range(0, height, step):
        yield top, image.crop((0, top, width, min(top + step, height)))


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


def white_of_images(files: Sequence[tuple[Path, str]]) -> tuple[float | None, str]:
    """Which stored value is white, over images (path, name for messages), and a note on it.

    (None, "") where every type says it. Floating point does not: an image of it alone may be dark, so a few of all are looked at.

    Raises:
        InputError: The values do not say it either.
    """
    candidates = [file for file in files if file[0].suffix.lower() in UNSCALED]
    if not candidates or not use_image(*candidates[0], _is_unscaled):
        return None, ""
    seen: list[Array] = []
    for i in spread_first(len(candidates))[:LOOKED_AT]:
        values = use_image(*candidates[i], lambda image: np.asarray(image) if _is_unscaled(image) else None)
        if values is not None:
            seen.append(values.ravel()[:: max(1, values.size // SEEN)])
    white = white_of_values(np.concatenate(seen), candidates[0][1])
    name = shown(candidates[0][1], 60)
    return (
        white,
        f"The type of images such as {name} has no white; by their values, {white:g} is white (sRGB).",
    )


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder in natural order of their names; not those of folders in it.

    Raises:
        InputError: There is none, but an image of a format that is not read.
    """
    files = visible(folder)
    found = [file for file in files if file.suffix.lower() in SUFFIXES]
    for file in files if not found else ():
        if file.suffix.lower() in FOREIGN_SUFFIXES and file.is_file():
            _refuse_foreign(file, file.name)
    return sorted(found, key=lambda file: natural_key(file.name))


def _refuse_foreign(path: Path, name: str) -> None:
    """Raises InputError where the file is of a known format that is not read."""
    what = foreign_format(path)
    if what:
        raise InputError("FIL-132", f"{name} {what}. Convert it to PNG or JPEG.")


def _narrower(
    image: Image.Image, name: str, white: float | None
) -> Callable[[Image.Image], Image.Image] | None:
    """What makes a gray image of 8 bits of one of more, or of a part of it; None where it has no more."""
    if _is_unscaled(image):
        factor = 255 / (white or white_of_values(np.asarray(image), name))

        def scaled(part: Image.Image) -> Image.Image:
            values = np.asarray(part) * factor
            return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))

        return scaled
    return _shifted if image.mode.startswith("I;16") or image.mode == "I" else None


def _shifted(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits."""
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))


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
        if isinstance(error, UnidentifiedImageError) and path.is_file():
            _refuse_foreign(path, name)
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


def _is_unscaled(image: Image.Image) -> bool:
    """Whether values have no largest one; some versions of Pillow open PNG files of 16 bits as 32."""
    return image.mode == "F" or (image.mode == "I" and image.format != "PNG")


def _carries_alpha(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _size(image: Image.Image) -> tuple[int, int]:
    return image.size
