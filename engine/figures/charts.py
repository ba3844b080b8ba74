"""Training curves as an image: one panel per quantity, so that each has its own scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .drawing import Color, Theme, format_number, shortened, theme, width_of, write

# the thick line averages windows of 1/24 of the points to either side
SMOOTHED_OVER = 24
# lines are drawn larger and scaled down, which smooths them
OVERSAMPLING = 2


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps. Values that are not finite leave a gap; there are as many values as steps."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    unit: str = ""


def curves_picture(
    curves: Sequence[Curve],
    size: tuple[int, int] = (512, 384),
    columns: int = 1,
    title: str = "",
    total: float | None = None,
    look: str = "dark",
) -> Image.Image:
    """Draw each curve in its own panel: a thin line of the values and a thick one of their moving mean.

    If the first values are far from the others, the range excludes them.

    Args:
        curves: The curves.
        size: (width, height) in pixels.
        columns: Number of panels side by side.
        title: Title above the panels.
        total: Last step of the axis, so that unfinished training shows how much remains; None: the last measured step.
        look: "dark" or "light".

    Returns:
        The image.
    """
    ink, (width, height) = theme(look), size
    picture = Image.new("RGB", size, ink.paper)
    pen = ImageDraw.Draw(picture)
    top = 0
    if title:
        write(pen, (10, 8), shortened(title, 15, width - 20), 15, ink.text)
        top = 30
    if not curves:
        write(pen, (width / 2, (top + height) / 2), "no measurements", 14, ink.quiet, "mm")
        return picture
    columns = min(max(columns, 1), len(curves))
    rows = -(-len(curves) // columns)
    across, down = width / columns, (height - top) / rows
    first = math.floor(min((c.steps[0] for c in curves if c.steps), default=0.0))
    # panels in one column share their axis
    begin = 10 + max(width_of(text, 11) for c in curves for text in map(format_number, _range(c)[1:]))
    last = total or max((c.steps[-1] for c in curves if c.steps), default=1.0)
    for i, curve in enumerate(curves):
        left, upper = i % columns * across, top + i // columns * down
        box = (round(left) + 5, round(upper) + 4, round(left + across) - 5, round(upper + down) - 4)
        _panel(picture, box, curve, (min(first, last), last), begin, ink.curves[i % len(ink.curves)], ink)
    return picture


def _panel(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    curve: Curve,
    steps: tuple[float, float],
    begin: int,
    color: Color,
    ink: Theme,
) -> None:
    """Name and latest value at the top, the curve with its range at the left and the steps at the bottom."""
    pen, (left, upper, right, lower) = ImageDraw.Draw(picture), box
    if right - left < 40 or lower - upper < 24:
        return
    pen.rounded_rectangle(box, 4, fill=ink.panel)
    # a strip below a preview has no room for the steps' axis
    tall = lower - upper > 90
    shown, low, high = _range(curve)
    newest = next((v for v in reversed(curve.values) if math.isfinite(v)), None)
    value = "" if newest is None else f"{format_number(newest)} {curve.unit}".strip()
    write(pen, (right - 6, upper + 4), value, 13, color, "ra")
    write(
        pen,
        (left + 6, upper + 4),
        shortened(curve.name, 13, right - left - 22 - width_of(value, 13)),
        13,
        ink.text,
    )
    plot = (left + begin, upper + 25, right - 6, lower - (20 if tall else 6))
    if plot[2] - plot[0] < 12 or plot[3] - plot[1] < 8:
        return
    for share in (0.0, 0.5, 1.0):
        y = round(plot[1] + share * (plot[3] - plot[1]))
        pen.line((plot[0], y, plot[2], y), fill=ink.line)
    for text, y in zip((format_number(high), format_number(low)), (plot[1], plot[3]), strict=True):
        write(pen, (plot[0] - 5, y), text, 11, ink.quiet, "rm")
    if tall:
        write(pen, (plot[0], lower - 4), format_number(steps[0]), 11, ink.quiet, "ls")
        write(pen, (plot[2], lower - 4), f"step {format_number(steps[1])}", 11, ink.quiet, "rs")
    if not len(shown):
        return
    _lines(picture, plot, curve, shown, (low, high), steps, color, ink)


def _range(curve: Curve) -> tuple[np.ndarray, float, float]:
    """The finite values, and the displayed range."""
    finite = np.array([v for v in curve.values if math.isfinite(v)], dtype=float)
    if not len(finite):
        return finite, 0.0, 1.0
    settled = finite[len(finite) // 20 :]
    low, high = float(settled.min()), float(settled.max())
    # the first values may be a hundred times the later ones: then the range excludes them
    if finite.max() - finite.min() < 2 * (high - low):
        low, high = float(finite.min()), float(finite.max())
    if high - low < 1e-9 * max(abs(high), 1e-30):
        pad = max(abs(high) * 0.05, 1e-9)
        return finite, low - pad, high + pad
    pad = 0.06 * (high - low)
    # a loss is never negative
    floor = 0.0 if low >= 0 else -math.inf
    return finite, max(low - pad, floor), high + pad


def _lines(
    picture: Image.Image,
    plot: tuple[int, int, int, int],
    curve: Curve,
    finite: np.ndarray,
    values: tuple[float, float],
    steps: tuple[float, float],
    color: Color,
    ink: Theme,
) -> None:
    """Both lines, drawn on an enlarged layer of the plot area, which clips them."""
    left, upper, right, lower = plot
    width, height = (right - left) * OVERSAMPLING, (lower - upper) * OVERSAMPLING
    layer = picture.crop(plot).resize((width, height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(layer)
    x = np.array([s for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)], dtype=float)
    span = max(steps[1] - steps[0], 1e-9)

    def points(y: np.ndarray) -> list[tuple[float, float]]:
        across = (x - steps[0]) / span * (width - 1)
        down = (1 - (y - values[0]) / (values[1] - values[0])) * (height - 1)
        return list(zip(across.tolist(), np.clip(down, 1, height - 2).tolist(), strict=True))

    faint = (
        round(0.55 * color[0] + 0.45 * ink.panel[0]),
        round(0.55 * color[1] + 0.45 * ink.panel[1]),
        round(0.55 * color[2] + 0.45 * ink.panel[2]),
    )
    raw, mean = points(finite), points(moving_mean(finite))
    if len(raw) > 1:
        pen.line(raw, fill=faint, width=OVERSAMPLING, joint="curve")
        pen.line(mean, fill=color, width=2 * OVERSAMPLING, joint="curve")
    end, radius = mean[-1], 1.6 * OVERSAMPLING
    pen.ellipse((end[0] - radius, end[1] - radius, end[0] + radius, end[1] + radius), fill=color)
    picture.paste(layer.resize((right - left, lower - upper), Image.Resampling.BOX), (left, upper))


def moving_mean(values: np.ndarray) -> np.ndarray:
    """Each value averaged with its neighbors; straight lines and both ends are preserved."""
    reach = len(values) // SMOOTHED_OVER
    if reach < 1:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    # equally far to both sides
    near = np.minimum(reach, np.minimum(index, len(values) - 1 - index))
    return (sums[index + near + 1] - sums[index - near]) / (2 * near + 1)


def beneath(picture: Image.Image, strip: Image.Image) -> Image.Image:
    """`picture` above `strip`, scaled to the strip's width."""
    width = strip.width
    height = max(1, round(picture.height * width / picture.width))
    made = Image.new("RGB", (width, height + strip.height))
    made.paste(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (0, 0))
    made.paste(strip, (0, height))
    return made
