"""Image sizes that models for editing single images take without cropping or stretching.

Source: ComfyUI's FluxKontextImageScale (the preferred sizes of Flux Kontext) and TextEncodeQwenImageEditPlus, which
scales its image to 1024² pixels in area and both sides to multiples of 8.
"""

from __future__ import annotations

import math
from functools import cache

from .sizes import nearest_size

Size = tuple[int, int]  # (width, height) in pixels

AS_RENDERED, KONTEXT, QWEN = "as rendered", "Flux Kontext", "Qwen-Image-Edit"
MULTIPLES = {f"multiple of {n}": n for n in (8, 16, 32, 64)}
SIZES_FOR = (AS_RENDERED, KONTEXT, QWEN, *MULTIPLES)

_UPRIGHT = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
)
KONTEXT_SIZES: tuple[Size, ...] = (*_UPRIGHT, (1024, 1024), *((h, w) for w, h in reversed(_UPRIGHT)))
QWEN_AREA = 1024 * 1024
# the transformer's patch is two latents wide, a latent eight pixels
QWEN_MULTIPLE = 16
# longest side in pixels
QWEN_LONGEST = 2048


@cache
def qwen_sizes() -> tuple[Size, ...]:
    """Sizes that TextEncodeQwenImageEditPlus leaves as they are and that are whole patches of the model."""
    sides = range(QWEN_AREA // QWEN_LONGEST, QWEN_LONGEST + 1, QWEN_MULTIPLE)
    return tuple((w, h) for w in sides for h in sides if qwen_size(w, h) == (w, h))


def qwen_size(width: int, height: int) -> Size:
    """The size to which TextEncodeQwenImageEditPlus scales a reference image of width×height."""
    scale = math.sqrt(QWEN_AREA / (width * height))
    return round(width * scale / 8) * 8, round(height * scale / 8) * 8


def fixed_sizes(editor: str) -> tuple[Size, ...]:
    """The sizes that an editor takes; none for choices that take any multiple."""
    return {KONTEXT: KONTEXT_SIZES, QWEN: qwen_sizes()}[editor] if editor in (KONTEXT, QWEN) else ()


def editor_size(editor: str, width: int, height: int, long_side: int = 0) -> Size:
    """The size at which an editor takes an image of width×height.

    Args:
        editor: One of SIZES_FOR.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        long_side: Longer side in pixels for choices that allow it; 0: the image's own.

    Returns:
        (width, height): of fixed sizes that of the nearest aspect ratio, as FluxKontextImageScale chooses.
    """
    if sizes := fixed_sizes(editor):
        return min(sizes, key=lambda size: (abs(width / height - size[0] / size[1]), size))
    return nearest_size(width, height, long_side or max(width, height), MULTIPLES.get(editor, 1))
