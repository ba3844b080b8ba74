"""Put views on sheets of several images, which an editor of single images then edits together.

Editors of single images make something else of every image. What stands on one image they edit alike, which is how their
edits agree in practice. The layout travels with the views, so that Sheet to Views needs no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.editor_sizes import MULTIPLES, SIZES_FOR, fixed_sizes
from ..errors import InputError
from ..fields import choice, number, validate
from ..scene import ViewSet
from ..scene.view_sheets import LONGEST, SheetLayout, largest
from ..train.originals import resize
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config:
    rows: int = number(
        2, 1, 8, "Rows of views on a sheet. More views on a sheet agree better and are smaller; typical 2–3."
    )
    columns: int = number(
        2, 1, 8, "Views in a row. More views on a sheet agree better and are smaller; typical 2–3."
    )
    size_for: str = choice(
        SIZES_FOR[0],
        SIZES_FOR,
        "Size of a sheet for a model that edits single images. Views are scaled to fit, never stretched or cropped, and their "
        "cameras follow. 'as rendered' keeps the views' pixels.",
        label="size for",
    )
    resolution: int = number(
        0,
        0,
        LONGEST,
        "Longer side of a sheet in pixels. More shows more detail. 0 keeps the views' size. Not used for Flux Kontext and "
        "Qwen-Image-Edit.",
        words={0: "as the views"},
    )

    def __post_init__(self) -> None:
        validate(self)


def run(views: ViewSet, config: Config = Config()) -> ViewSet:
    """Lay out views on sheets.

    Args:
        views: F views; their edited images are shown, which are the originals where nothing was edited.
        config: Rows, columns and the size of a sheet.

    Returns:
        The views at the size that they have on the sheets, with the layout as `sheet`; `sheets` draws it.

    Raises:
        InputError: Sheets that are larger than 16384 pixels, or too small for their views.

    Example:
        laid_out = views_to_sheet.run(views, views_to_sheet.Config(rows=3, columns=3))
        edited = sheet_to_views.run(laid_out, edit(views_to_sheet.sheets(laid_out)))
    """
    layout = _layout(config, views.size, len(views))
    size = (layout.view_width, layout.view_height)
    note = "\n".join(_notes(config, layout, views.size))
    shown = replace(
        views,
        images=_at(views.images, size),
        originals=_at(views.originals, size),
        alphas=None if views.alphas is None else _at(views.alphas[..., None], size)[..., 0],
        cameras=views.cameras.resized((size,) * len(views)),
        edit={**(views.edit or {}), "note": note},
    )
    return replace(shown, sheet=layout)


def sheets(views: ViewSet) -> Tensor:
    """[S, H, W, 3]: the views on their sheets."""
    assert views.sheet is not None
    return views.sheet.paste(views.images[..., :3])


def _layout(config: Config, view: tuple[int, int], count: int) -> SheetLayout:
    rows, columns = config.rows, config.columns
    if fixed := fixed_sizes(config.size_for):
        return largest(rows, columns, fixed, view, count)
    whole = (columns * view[0], rows * view[1])
    scale = config.resolution / max(whole) if config.resolution else 1.0
    shown = tuple(max(round(side * scale), 1) for side in view)
    multiple = MULTIPLES.get(config.size_for, 1)
    width, height = (
        -(-n * side // multiple) * multiple for n, side in zip((columns, rows), shown, strict=True)
    )
    if max(width, height) > LONGEST:
        raise InputError(
            "STP-110",
            f"{rows} × {columns} views of {view[0]}×{view[1]} make a sheet of {width}×{height}, but at most {LONGEST} pixels per "
            "side are possible; set resolution, or use fewer rows and columns.",
        )
    return SheetLayout(rows, columns, width, height, shown[0], shown[1], count)


def _at(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [F, h, w, C] at (width, height); the same ones where they have that size."""
    if images.shape[1:3] == size[::-1]:
        return images
    return torch.stack([resize(image, size) for image in images])


def _notes(config: Config, layout: SheetLayout, view: tuple[int, int]) -> list[str]:
    """What became of the views' pixels, and what is padding."""
    several = "sheets" if layout.sheets > 1 else "sheet"
    lines = [
        f"{layout.count} views on {layout.sheets} {several} of {layout.width}×{layout.height}, {layout.rows} rows of "
        f"{layout.columns}"
    ]
    shown = (layout.view_width, layout.view_height)
    if shown != view:
        lines.append(f"views scaled from {view[0]}×{view[1]} to {shown[0]}×{shown[1]}")
    padding = 1 - layout.rows * layout.columns * shown[0] * shown[1] / (layout.width * layout.height)
    if padding > 0:
        lines.append(f"{padding:.1%} of a full sheet is padding (gray)")
    if layout.empty:
        cells = "cell of the last sheet has" if layout.empty == 1 else "cells of the last sheet have"
        lines.append(f"{layout.empty} {cells} no view (gray)")
    if config.resolution and fixed_sizes(config.size_for):
        lines.append(f"resolution {config.resolution} is not used, since {config.size_for} has fixed sizes")
    return lines


def summary(views: ViewSet) -> str:
    """A few lines about the sheets."""
    return str((views.edit or {}).get("note", ""))


STEP = Step(
    name="views_to_sheet",
    node="ViewsToSheet",
    label="Views to Sheet",
    category="4dgs/edit",
    description="Puts several views on one image, so that a model that edits single images (Flux Kontext, Qwen-Image-Edit) "
    "edits them alike. Sheet to Views takes them apart again.",
    search=("grid", "contact sheet", "kontext", "qwen"),
    config=Config,
    run=run,
    inputs=(Input("views", Kind.VIEWS, "From Scene Views or Edit Views with Prompt."),),
    outputs=(
        Output("views_out", Kind.VIEWS, "The views and their places, for Sheet to Views.", "views"),
        Output("sheets", Kind.FRAMES, "The sheets, as a batch.", of=sheets),
    ),
    verb="views-to-sheet",
    has_device=False,
    note=summary,
)
