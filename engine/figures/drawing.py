"""Themes for dark and light pages, and text in Pillow's own font, for charts, tables and sheets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError

Color = tuple[int, int, int]
ThemeName = Literal["dark", "light"]


@dataclass(frozen=True)
class Theme:
    """Colors of a figure.

    Attributes:
        paper: Background.
        panel: Background of a curve, and of every other row of a table.
        line: Grid and borders.
        text: Text.
        quiet: Numbers at an axis.
        curves: Curves; distinguishable with red-green color blindness (Okabe and Ito's palette).
    """

    paper: Color
    panel: Color
    line: Color
    text: Color
    quiet: Color
    curves: tuple[Color, ...]


THEMES: dict[str, Theme] = {
    "dark": Theme(
        (24, 26, 30), (34, 37, 43), (62, 66, 74), (236, 238, 242), (158, 164, 174),
        ((86, 180, 233), (0, 190, 140), (240, 180, 60), (225, 130, 180), (240, 228, 66)),
    ),
    "light": Theme(
        (255, 255, 255), (244, 245, 247), (208, 212, 218), (26, 28, 32), (104, 110, 120),
        ((0, 114, 178), (0, 140, 100), (200, 94, 0), (180, 90, 145), (130, 110, 0)),
    ),
}  # fmt: skip


def theme(name: str) -> Theme:
    """The theme `name`. Raises InputError if it does not exist."""
    if name not in THEMES:
        raise InputError("FIG-002", f"'{name}' is not a chart theme; choose one of {', '.join(THEMES)}.")
    return THEMES[name]


@cache
def letters(size: int) -> Any:
    """Pillow's own font in a size in pixels."""
    return ImageFont.load_default(size)


def width_of(text: str, size: int) -> int:
    """Width of `text` in pixels."""
    left, _, right, _ = letters(size).getbbox(text)
    return int(np.ceil(right - left))


def shortened(text: str, size: int, room: int) -> str:
    """`text`, truncated with an ellipsis if it is wider than `room` pixels."""
    if width_of(text, size) <= room:
        return text
    while text and width_of(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, color: Color, anchor: str = "la"
) -> None:
    """Text with Pillow's anchor letters: first l, m, r across, second a (top), m (middle), s (baseline) down."""
    pen.text(at, text, fill=color, font=letters(size), anchor=anchor)


def as_picture(image: Tensor) -> Image.Image:
    """A PIL image of [H, W, 3] floats in 0..1."""
    return Image.fromarray((image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def as_tensor(picture: Image.Image) -> Tensor:
    """[H, W, 3] floats in 0..1 of a PIL image."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).float() / 255


def format_number(value: float) -> str:
    """A number in the few characters that fit at an axis: 0.0312, 21.4, 4000, 12k, 1.5M."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"
