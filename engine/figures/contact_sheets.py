"""Contact sheets: images in rows and columns with captions and a color scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import InputError
from .color_maps import heat
from .drawing import Theme, as_picture, shortened, theme, width_of, write

MARGIN, GAP = 8, 6
# font sizes in pixels
TITLE, WORDS = 15, 12
# pixels: captions of narrower columns would be illegible
LEAST = 96


@dataclass(frozen=True)
class Scale:
    """The color scale of an error map: its name, and `text` for the value at its upper end."""

    name: str
    text: str


@dataclass(frozen=True)
class _Layout:
    """Positions on a sheet, in pixels.

    Attributes:
        columns: Number of columns.
        wide: Width of one column.
        heights: Height of the images in each row.
        head: Height of title and headers.
        caption: Height below each row.
    """

    columns: int
    wide: int
    heights: tuple[int, ...]
    head: int = 0
    caption: int = GAP

    @property
    def size(self) -> tuple[int, int]:
        across = self.columns * (self.wide + GAP) - GAP + 2 * MARGIN
        return across, MARGIN + self.head + sum(self.heights) + self.caption * len(self.heights) + GAP

    def place(self, index: int) -> tuple[int, int]:
        """Left and top of a stack."""
        row, column = divmod(index, self.columns)
        above = sum(self.heights[:row]) + self.caption * row
        return MARGIN + column * (self.wide + GAP), MARGIN + self.head + above


def sheet(
    stacks: Sequence[Sequence[Tensor]],
    captions: Sequence[str] = (),
    columns: int = 0,
    title: str = "",
    headers: Sequence[str] = (),
    scale: Scale | None = None,
    width: int = 1024,
    look: str = "dark",
    tile: int = 0,
) -> Image.Image:
    """Arrange images as a contact sheet.

    Args:
        stacks: Each is a column of images [H, W, 3] in 0..1, from top to bottom.
        captions: Text below each stack.
        columns: Number of stacks side by side; 0 chooses it so that the sheet is wider than high.
        title: Title at the top left.
        headers: Text above equal parts of each column's width, for images that are several side by side already.
        scale: Color scale at the top right.
        width: Largest width of the sheet in pixels; images are enlarged at most twofold.
        look: "dark" or "light".
        tile: If above 0, the width of a column, and the sheet is as wide as needed.

    Returns:
        The image.

    Raises:
        InputError: There are no images.
    """
    if not stacks or not stacks[0]:
        raise InputError("FIG-001", "A contact sheet needs at least one image.")
    ink = theme(look)
    layout = _layout(stacks, columns, tile, width)
    layout = replace(
        layout,
        head=(TITLE + 12 if title or scale else 0) + (WORDS + 8 if headers else 0),
        caption=WORDS + 8 if captions else GAP,
    )
    picture = Image.new("RGB", layout.size, ink.paper)
    _head(picture, layout, title, headers, scale, ink)
    pen = ImageDraw.Draw(picture)
    for i, stack in enumerate(stacks):
        left, top = layout.place(i)
        _paste(picture, stack, left, top, layout.wide)
        if i < len(captions):
            middle, under = left + layout.wide / 2, top + layout.heights[i // layout.columns] + 3
            text = shortened(captions[i], WORDS, layout.wide)
            write(pen, (middle, under), text, WORDS, ink.text, "ma")
    return picture


def below(*pictures: Image.Image, look: str = "dark") -> Image.Image:
    """Sheets and charts one below the other."""
    size = max(p.width for p in pictures), sum(p.height for p in pictures)
    whole = Image.new("RGB", size, theme(look).paper)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def _layout(stacks: Sequence[Sequence[Tensor]], columns: int, tile: int, width: int) -> _Layout:
    """Columns, their width and the rows' heights, without text."""
    widest, high = max(one.shape[1] for one in stacks[0]), sum(one.shape[0] for one in stacks[0])
    columns = min(columns or _columns(len(stacks), widest, high), len(stacks))
    room = tile or (width - 2 * MARGIN - (columns - 1) * GAP) // columns
    wide = max(LEAST, min(room, 2 * widest))
    heights = [sum(_height(one, wide) for one in stack) for stack in stacks]
    rows = (heights[i : i + columns] for i in range(0, len(stacks), columns))
    return _Layout(columns, wide, tuple(max(row) for row in rows))


def _head(
    picture: Image.Image, layout: _Layout, title: str, headers: Sequence[str], scale: Scale | None, ink: Theme
) -> None:
    """The title, the scale right of it, and the headers above each column."""
    pen = ImageDraw.Draw(picture)
    if scale is not None:
        _scale(picture, scale, ink)
    if title:
        taken = 0 if scale is None else _scale_width(scale) + 12
        room = picture.width - 2 * MARGIN - taken
        write(pen, (MARGIN, MARGIN), shortened(title, TITLE, room), TITLE, ink.text)
    share = layout.wide / max(len(headers), 1)
    for column in range(layout.columns):
        for i, word in enumerate(headers):
            middle = layout.place(column)[0] + (i + 0.5) * share
            text = shortened(word, WORDS, round(share) - 4)
            write(pen, (middle, MARGIN + layout.head - 6), text, WORDS, ink.quiet, "ms")


def _paste(picture: Image.Image, stack: Sequence[Tensor], left: int, top: int, wide: int) -> None:
    for one in stack:
        size = wide, _height(one, wide)
        picture.paste(as_picture(one).resize(size, Image.Resampling.LANCZOS), (left, top))
        top += size[1]


def before_and_after(
    before: Tensor, after: Tensor, captions: Sequence[str], words: tuple[str, str] = ("original", "edited")
) -> Image.Image:
    """A sheet of pairs: images [K, H, W, 3] above their edited versions."""
    pairs = list(zip(before, after, strict=True))
    return sheet(pairs, captions, title=f"{words[0]} above, {words[1]} below")


def _height(image: Tensor, wide: int) -> int:
    return max(1, round(image.shape[0] * wide / image.shape[1]))


def _columns(count: int, width: int, height: int) -> int:
    """Number of columns for a sheet with an aspect ratio of about 3:2 and few empty places."""

    def badness(columns: int) -> float:
        rows = -(-count // columns)
        return abs(math.log(columns * width / (rows * height) / 1.5)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _scale_width(scale: Scale) -> int:
    return width_of(scale.name, WORDS) + width_of("0", WORDS) + width_of(scale.text, WORDS) + 120 + 24


def _scale(picture: Image.Image, scale: Scale, ink: Theme) -> None:
    """At the top right: name, 0, a bar of all colors, the value of the last one."""
    pen, middle = ImageDraw.Draw(picture), MARGIN + TITLE // 2
    right = picture.width - MARGIN
    write(pen, (right, middle), scale.text, WORDS, ink.text, "rm")
    right -= width_of(scale.text, WORDS) + 8
    bar = heat(torch.linspace(0, 1, 120).expand(10, 120))
    picture.paste(as_picture(bar), (right - 120, middle - 5))
    pen.rectangle((right - 121, middle - 6, right, middle + 5), outline=ink.line)
    write(pen, (right - 128, middle), f"{scale.name}   0", WORDS, ink.text, "rm")
