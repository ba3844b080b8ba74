"""Tables of figures as an image: words on the left, aligned numbers on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from engine.errors import InputError
from engine.figures.drawing import Color, Theme, shortened, theme, width_of, write

MARGIN, ROW, LETTERS, HEADING, TITLE, NOTE = 18, 24, 14, 13, 18, 12
GAP = 22  # between columns
WIDEST_CELL = 360


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]  # the first one holds the row names
    rows: tuple[tuple[str, ...], ...]  # as many cells as columns


def tables_picture(
    tables: Sequence[Table], title: str = "", notes: Sequence[str] = (), look: str = "light", scale: int = 2
) -> Image.Image:
    """Tables stacked vertically, with `notes` in small text at the end, drawn at `scale` times the size for high-DPI screens.

    Raises InputError if there is nothing to show or a row has too few or too many cells.
    """
    shown = [table for table in tables if table.rows]
    if not shown:
        raise InputError(
            "BEN-013", "The benchmark output contains no figures for a table; run the benchmark again."
        )
    for table in shown:
        for row in table.rows:
            if len(row) != len(table.columns):
                raise InputError(
                    "BEN-014",
                    f"Table '{table.title}': a row has {len(row)} cells for {len(table.columns)} columns.",
                )
    ink, layout = theme(look), [_widths(table, scale) for table in shown]
    width = max(
        max(sum(widths) + GAP * scale * (len(widths) - 1) for widths in layout),
        max((width_of(table.title, LETTERS * scale) for table in shown), default=0),
        width_of(title, TITLE * scale),
    )
    width += 2 * (MARGIN + 8) * scale
    height = MARGIN * 2 + (TITLE + 16 if title else 0)
    height += sum((26 if table.title else 4) + ROW * (len(table.rows) + 1) + 14 for table in shown)
    height += (NOTE + 6) * len(notes)
    picture = Image.new("RGB", (width, height * scale), ink.paper)
    pen, top = ImageDraw.Draw(picture), MARGIN * scale
    if title:
        write(pen, (MARGIN * scale, top), title, TITLE * scale, ink.text)
        top += (TITLE + 16) * scale
    for table, widths in zip(shown, layout, strict=True):
        top = _table(pen, table, widths, top, width, ink, scale)
    for note in notes:
        room = width - 2 * MARGIN * scale
        write(pen, (MARGIN * scale, top), shortened(note, NOTE * scale, room), NOTE * scale, ink.quiet)
        top += (NOTE + 6) * scale
    return picture


def _widths(table: Table, scale: int) -> list[int]:
    """The width of each column: that of its widest cell."""
    widths: list[int] = []
    for i, name in enumerate(table.columns):
        cells = [width_of(row[i], LETTERS * scale) for row in table.rows]
        widths.append(min(max([width_of(name, HEADING * scale), *cells]), WIDEST_CELL * scale))
    return widths


def _table(
    pen: ImageDraw.ImageDraw, table: Table, widths: list[int], top: int, width: int, ink: Theme, scale: int
) -> int:
    """Draws one table at `top`; returns the position below it."""
    left, right = MARGIN * scale, width - MARGIN * scale
    if table.title:
        write(pen, (left, top + 2 * scale), table.title, LETTERS * scale, ink.curves[0])
    top += (26 if table.title else 4) * scale

    def line(cells: Sequence[str], size: int, color: Color) -> None:
        # number columns are right-aligned, so that a narrow table fills the width of the image
        edge = right - 8 * scale
        for i in reversed(range(1, len(cells))):
            text = shortened(cells[i], size, widths[i])
            write(pen, (edge, top + ROW * scale // 2), text, size, color, "rm")
            edge -= widths[i] + GAP * scale
        text = shortened(cells[0], size, max(edge - left - 8 * scale, widths[0]))
        write(pen, (left + 8 * scale, top + ROW * scale // 2), text, size, color, "lm")

    line(table.columns, HEADING * scale, ink.quiet)
    pen.line((left, top + ROW * scale, right, top + ROW * scale), fill=ink.line, width=scale)
    top += ROW * scale
    for r, row in enumerate(table.rows):
        if r % 2 == 0:
            pen.rectangle((left, top + 1, right, top + ROW * scale), fill=ink.panel)
        line(row, LETTERS * scale, ink.text)
        top += ROW * scale
    return top + 14 * scale
