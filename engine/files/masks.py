"""Mask images in every usual encoding: white on black, labels, palettes, 16 bits, floating point, colors or alpha.

One mask alone does not tell its encoding: where the object is out of sight, every encoding is one value. So the encoding is
found over many masks of a capture or folder, and then every one of them is read by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..wording import shown
from .mask_layers import MaskLayers, alpha_varies, load_layers
from .samples import LOOKED_AT, spread_first

Array = NDArray[Any]

# largest values of gray masks of so many bits; the smallest that fits is taken
WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
# part of white that a mask of shades must reach to be taken as it is, and below which it is too dark to be one
BRIGHT, DARK = 0.9, 0.1
# part of a value's pixels in blocks of 2 × 2 from which it fills areas, and part of the pixels that labels fill
PLATEAU, LABELED = 0.5, 0.9
# labels that may lie between 0 and white; soft edges that were enlarged have more
FEW = 32
# values that are counted at a time, and levels that floating point and whole numbers of 32 bits are counted in
COUNTED, FINEST = 1 << 22, 1 << 16


@dataclass(frozen=True)
class MaskEncoding:
    """How masks are read.

    Args:
        uses_alpha: The alpha channel is the mask; else the colors are.
        white: Stored value of the subject, above which nothing counts more; None where every value above 0 is the subject.
        note: How the masks are read, in one line; empty for white on black.
        doubt: What speaks against their being masks, in one line, or empty.
    """

    uses_alpha: bool = False
    white: float | None = 255.0
    note: str = ""
    doubt: str = ""

    def read(self, layers: MaskLayers) -> Array:
        """Decoded layers as a mask [H, W] uint8, 255 = subject."""
        values = layers.alpha if self.uses_alpha and layers.alpha is not None else layers.values
        if self.white is None:
            return (values > 0) * np.uint8(255)
        if values.dtype == np.uint8 and self.white == 255:
            return values
        return (values * (255 / self.white)).clip(0, 255).round().astype(np.uint8)


# what programs agree on, and what this one writes
WHITE_ON_BLACK = MaskEncoding()


def read_mask(path: Path, name: str, size: tuple[int, int], encoding: MaskEncoding) -> Array:
    """A mask image as [H, W] uint8, 255 = subject, resampled by area to `size` (width, height)."""
    mask = encoding.read(load_layers(path, name))
    if (mask.shape[1], mask.shape[0]) != size:
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX))
    return mask


def encoding_of_files(files: Sequence[tuple[Path, str]]) -> MaskEncoding:
    """The encoding of mask images (path, name for messages). Raises InputError as `find_encoding` does."""
    return find_encoding((load_layers(*files[i]) for i in spread_first(len(files))), len(files), files[0][1])


def find_encoding(
    masks: Iterable[MaskLayers], count: int, first: str, looked_at: int = LOOKED_AT
) -> MaskEncoding:
    """The encoding of masks, of which some are decoded, and more until both subject and background are seen.

    Args:
        masks: Decoded as they are asked for; those that represent the whole come first.
        count: How many there are.
        first: Name of one, for messages.
        looked_at: How many are decoded in any case.

    Raises:
        InputError: All of them are empty, or all cover their whole image.
    """
    survey = _Survey()
    for i, mask in enumerate(masks):
        survey.add(mask)
        if i + 1 >= looked_at and survey.is_settled():
            break
    return survey.encoding(count, first)


def _filled(values: Array) -> Array:
    """Pixels [H, W] bool that lie in a block of 2 × 2 equal ones."""
    block = values[1:, 1:] == values[:-1, :-1]
    block &= values[1:, 1:] == values[:-1, 1:]
    block &= values[1:, 1:] == values[1:, :-1]
    filled = np.zeros(values.shape, dtype=bool)
    for rows in (slice(1, None), slice(None, -1)):
        for columns in (slice(1, None), slice(None, -1)):
            filled[rows, columns] |= block
    return filled


@dataclass
class _Levels:
    """Value to its pixels, and to those of them that lie in areas of this value."""

    pixels: dict[float, int] = field(default_factory=dict[float, int])
    filled: dict[float, int] = field(default_factory=dict[float, int])

    def add(self, values: Array) -> None:
        if values.dtype.kind == "f":
            # enough to tell labels from shades
            values = values.round(3)
        for into, chosen in ((self.pixels, values), (self.filled, values[_filled(values)])):
            for value, number in _counted(chosen):
                into[value] = into.get(value, 0) + number


def _counted(values: Array) -> Iterator[tuple[float, int]]:
    """Each value with its number of pixels."""
    flat = values.ravel()
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.zeros(np.iinfo(values.dtype).max + 1, np.int64)
        # bincount makes 8 bytes of each value
        for start in range(0, len(flat), COUNTED):
            counts += np.bincount(flat[start : start + COUNTED], minlength=len(counts))
        found = counts.nonzero()[0]
        counts = counts[found]
    else:
        found, counts = np.unique(flat, return_counts=True)
        if len(found) > FINEST:
            above = found.astype(np.float64) - float(found[0])
            level = np.round(above * (FINEST / above[-1])).astype(np.int64)
            coarse = np.bincount(level, counts).astype(np.int64)
            # the value of each level's last member, so that the largest stays what it is
            last = np.flatnonzero(np.diff(level, append=-1))
            found, counts = found[last], coarse[level[last]]
    return zip(found.tolist(), counts.tolist(), strict=True)


@dataclass
class _Survey:
    """What was seen of a number of masks."""

    values: _Levels = field(default_factory=_Levels)
    alphas: _Levels = field(default_factory=_Levels)
    kinds: set[str] = field(default_factory=set[str])
    has_lossy: bool = False
    alpha_varies: bool = False
    has_depth: bool = False

    def add(self, mask: MaskLayers) -> None:
        self.values.add(mask.values)
        self.kinds.add(mask.kind)
        self.has_lossy |= mask.is_lossy
        self.has_depth |= mask.values.dtype != np.uint8
        if mask.alpha is not None:
            self.alphas.add(mask.alpha)
            self.alpha_varies |= alpha_varies(mask.alpha)

    @property
    def levels(self) -> _Levels:
        return self.alphas if self.alpha_varies else self.values

    def white(self) -> float | None:
        """See MaskEncoding."""
        pixels, filled = self.levels.pixels, self.levels.filled
        highest = max(pixels)
        above = [value for value in pixels if value > 0]
        fitting = WHITES if self.has_depth else WHITES[1:2]
        top = next((w for w in fitting if highest <= w * 1.001), highest)
        bright = highest >= BRIGHT * top
        if not above or (len(above) == 1 and bright and highest == top):
            return top
        total = sum(pixels[v] for v in above)
        asked = [v for v in above if v < highest] if bright and len(above) > 1 else above
        share = sum(pixels[v] for v in asked)
        areas = [v for v in asked if filled.get(v, 0) >= PLATEAU * pixels[v]]
        # compression leaves areas of a few values, and many values in between
        clean = 2 * len(areas) >= len(asked) and sum(pixels[v] for v in areas) >= LABELED * share
        few = len(above) <= FEW or 2 * share >= total
        if not self.has_lossy and (len(above) == 1 or (few and clean)):
            return None
        if bright or highest < DARK * top:
            return top
        # the subject is the largest area in the upper half
        return max((v for v in above if 2 * v >= highest), key=lambda v: (filled.get(v, 0), v))

    def is_settled(self) -> bool:
        """Whether there is a subject and a background, and no brighter mask can change how dark ones are read."""
        white = self.white()
        brightest = white is None or (white in WHITES and max(self.levels.pixels) >= BRIGHT * white)
        return brightest and self.has_both()

    def has_both(self) -> bool:
        """Whether there is a subject and a background."""
        white = self.white()
        border = 0.0 if white is None else white / 2
        pixels = self.levels.pixels
        return max(pixels) > border >= min(pixels)

    def encoding(self, count: int, first: str) -> MaskEncoding:
        """See find_encoding."""
        white, pixels = self.white(), self.levels.pixels
        seen = f"{count} masks, such as {shown(first, 60)}," if count > 1 else f"The mask {shown(first, 60)}"
        if not self.has_both():
            if white is None or max(pixels) > white / 2:
                raise InputError(
                    "FIL-131",
                    f"{seen} cover{'' if count > 1 else 's'} the whole image: {_span(pixels)}. Export with black (0) around the "
                    "subject.",
                )
            raise InputError(
                "FIL-130",
                f"{seen} {'are all' if count > 1 else 'is'} empty: {_span(pixels)}. Export with white (255) on the subject.",
            )
        return MaskEncoding(self.alpha_varies, white, self._note(white), self._doubt(white))

    def _note(self, white: float | None) -> str:
        parts: list[str] = []
        pixels = self.levels.pixels
        if self.alpha_varies:
            parts.append("the alpha channel is the mask")
        elif self.alphas.pixels:
            parts.append("the alpha channel is constant, so the colors are the mask")
        if not self.alpha_varies and "palette" in self.kinds:
            parts.append("in palette images, every index other than the background's (0) is the subject")
        if not self.alpha_varies and "colored" in self.kinds:
            parts.append("the brightest color channel counts")
        if white is None:
            parts.append(f"{_span(pixels)}; every value other than 0 is the subject")
        elif white != 255:
            parts.append(f"{_span(pixels)}; {white:g} is the subject")
        return f"Masks: {', '.join(parts)}." if parts else ""

    def _doubt(self, white: float | None) -> str:
        pixels = self.levels.pixels
        if white is None:
            return ""
        between = sum(n for v, n in pixels.items() if DARK * white < v < BRIGHT * white) / sum(
            pixels.values()
        )
        if between < 0.5:
            return ""
        return (
            f"{100 * between:.0f} % of the masks' pixels are neither subject nor background but gray. Check that these images "
            "are masks: white on the subject, black around it."
        )


def _span(pixels: dict[float, int]) -> str:
    """ "values 0, 1 and 2" or "values 0 to 255"."""
    values = sorted(pixels)
    if len(values) == 1:
        return f"the only value is {values[0]:g}"
    if len(values) <= 5:
        return f"values {', '.join(f'{v:g}' for v in values[:-1])} and {values[-1]:g}"
    return f"values {values[0]:g} to {values[-1]:g}"
