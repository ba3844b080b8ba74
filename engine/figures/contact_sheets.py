"""Contact sheets: pictures in rows and columns with words beneath, and what their colours mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import InputError
from .color_maps import heat
from .drawing import Theme, as_picture, shortened, theme, width_of, write

MARGIN, GAP = 8, 6
TITLE, WORDS = 15, 12  # heights of letters
LEAST = 96  # pixels: narrower columns could not be read


@dataclass(frozen=True)
class Scale:
    """What the colours of an error map mean: the bar from none to `full`, which is told as `text`."""

    name: str
    text: str


def sheet(
    stacks: Sequence[Sequence[Tensor]],
    captions: Sequence[str] = (),
    columns: int = 0,
    title: str = "",
    headers: Sequence[str] = (),
    scale: Scale | None = None,
    width: int = 1024,
    look: str = "dark",
) -> Image.Image:
    """Each stack is a column of pictures [H, W, 3] in 0..1, one above the other, with its caption beneath.

    `columns` stacks stand side by side (0: as many as make a sheet that is wider than high). `headers` are words above
    equal shares of each column's width, for pictures that are several side by side already. `width` is the most that the
    sheet takes; pictures are made smaller for it, never larger beyond twice their size. Raises InputError without
    pictures.
    """
    if not stacks or not stacks[0]:
        raise InputError("A contact sheet needs at least one picture.")
    ink = theme(look)
    shape = [(one.shape[1], one.shape[0]) for one in stacks[0]]
    columns = columns or _columns(len(stacks), max(w for w, _ in shape), sum(h for _, h in shape))
    columns = min(columns, len(stacks))
    room = (width - 2 * MARGIN - (columns - 1) * GAP) // columns
    wide = max(LEAST, min(room, 2 * max(w for w, _ in shape)))
    total = columns * wide + (columns - 1) * GAP + 2 * MARGIN
    head = (TITLE + 12 if title or scale else 0) + (WORDS + 8 if headers else 0)
    caption = WORDS + 8 if captions else GAP
    rows = [stacks[i : i + columns] for i in range(0, len(stacks), columns)]
    heights = [max(sum(_height(one, wide) for one in stack) for stack in row) for row in rows]
    picture = Image.new("RGB", (total, MARGIN + head + sum(heights) + caption * len(rows) + GAP), ink.paper)
    pen = ImageDraw.Draw(picture)
    if scale is not None:
        _scale(picture, scale, ink)
    if title:
        taken = 0 if scale is None else _scale_width(scale) + 12
        write(pen, (MARGIN, MARGIN), shortened(title, TITLE, total - 2 * MARGIN - taken), TITLE, ink.text)
    for column in range(columns):
        for i, word in enumerate(headers):
            share = wide / len(headers)
            left = MARGIN + column * (wide + GAP) + i * share
            text = shortened(word, WORDS, round(share) - 4)
            write(pen, (left + share / 2, MARGIN + head - 6), text, WORDS, ink.quiet, "ms")
    top = MARGIN + head
    for r, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for c, stack in enumerate(row):
            left, below = MARGIN + c * (wide + GAP), top
            for one in stack:
                size = wide, _height(one, wide)
                picture.paste(as_picture(one).resize(size, Image.Resampling.LANCZOS), (left, below))
                below += size[1]
            if r * columns + c < len(captions):
                text = shortened(captions[r * columns + c], WORDS, wide)
                write(pen, (left + wide / 2, top + height + 3), text, WORDS, ink.text, "ma")
        top += height + caption
    return picture


def before_and_after(
    before: Tensor, after: Tensor, captions: Sequence[str], words: tuple[str, str] = ("original", "edited")
) -> Image.Image:
    """A sheet of pairs: pictures [K, H, W, 3] above those that they became."""
    pairs = list(zip(before, after, strict=True))
    return sheet(pairs, captions, title=f"{words[0]} above, {words[1]} below")


def _height(image: Tensor, wide: int) -> int:
    return max(1, round(image.shape[0] * wide / image.shape[1]))


def _columns(count: int, width: int, height: int) -> int:
    """How many make a sheet about three wide and two high with few empty places."""

    def badness(columns: int) -> float:
        rows = -(-count // columns)
        return abs(math.log(columns * width / (rows * height) / 1.5)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _scale_width(scale: Scale) -> int:
    return width_of(scale.name, WORDS) + width_of("0", WORDS) + width_of(scale.text, WORDS) + 120 + 24


def _scale(picture: Image.Image, scale: Scale, ink: Theme) -> None:
    """At the top right: name, 0, a bar of all colours, what the last one stands for."""
    pen, middle = ImageDraw.Draw(picture), MARGIN + TITLE // 2
    right = picture.width - MARGIN
    write(pen, (right, middle), scale.text, WORDS, ink.text, "rm")
    right -= width_of(scale.text, WORDS) + 8
    bar = heat(torch.linspace(0, 1, 120).expand(10, 120))
    picture.paste(as_picture(bar), (right - 120, middle - 5))
    pen.rectangle((right - 121, middle - 6, right, middle + 5), outline=ink.line)
    write(pen, (right - 128, middle), f"{scale.name}   0", WORDS, ink.text, "rm")
