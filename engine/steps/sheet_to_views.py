"""Take edited sheets of views apart again: the inverse of Views to Sheet, exact to the bit at the sheets' own size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import validate
from ..scene import ViewSet
from ..scene.framing import edge_shift, fitting_sizes, is_whole, listed
from ..train.originals import resize
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config:
    def __post_init__(self) -> None:
        validate(self)


def run(views: ViewSet, sheets: Tensor, config: Config = Config()) -> ViewSet:
    """Take edited sheets of views apart.

    Args:
        views: From Views to Sheet: F views with their places on the sheets.
        sheets: Edited sheets [S, H, W, 3] in 0..1, in their order. At another size they are scaled as a whole.
        config: Nothing to set.

    Returns:
        The views with the images of the sheets.

    Raises:
        InputError: Views that were not on a sheet, another number of sheets, or sheets of another aspect ratio.
    """
    layout = views.sheet
    if layout is None or layout.count != len(views):
        raise InputError(
            "STP-111",
            "These views were not put on a sheet; connect the views of the Views to Sheet node that made the sheets.",
        )
    height, width = int(sheets.shape[1]), int(sheets.shape[2])
    (w, h), several = layout.size, "sheet" if layout.sheets == 1 else "sheets"
    if len(sheets) != layout.sheets:
        raise InputError(
            "STP-112",
            f"{len(sheets)} images of {width}×{height} were given, but the {len(views)} views are on {layout.sheets} {several} "
            f"of {w}×{h}; give one image per sheet, in the same order.",
        )
    if not is_whole((width, height), (w, h)):
        raise InputError(
            "STP-113",
            f"The edited sheets are {width}×{height} and were {w}×{h}: at the edges, views are "
            f"{edge_shift((width, height), (w, h)):.1f} pixels apart. Give sheets of "
            f"{listed(fitting_sizes((width, height), (w, h)))}, or choose the editor in 'size for' of Views to Sheet.",
        )
    pixels = sheets[..., :3].float()
    if (width, height) != (w, h):
        pixels = torch.stack([resize(sheet, (w, h)) for sheet in pixels])
    note = f"{len(views)} views of {views.size[0]}×{views.size[1]} from {layout.sheets} {several} of {width}×{height}"
    if (width, height) != (w, h):
        note += f", scaled to {w}×{h}"
    if layout.sheets > 1:
        note += f"\norder of the sheets assumed: the first has {views.caption(0)}, the last {views.caption(len(views) - 1)}"
    return replace(
        views.with_images(layout.cut(pixels)),
        edit={**(views.edit or {}), "images": "edited on sheets", "note": note},
    )


def summary(views: ViewSet) -> str:
    """A line about the views, and the order that was assumed."""
    return str((views.edit or {}).get("note", ""))


STEP = Step(
    name="sheet_to_views",
    node="SheetToViews",
    label="Sheet to Views",
    category="4dgs/edit",
    description="Takes edited sheets of views apart again, for Fit Scene to Edited Views.",
    search=("grid", "contact sheet", "split"),
    config=Config,
    run=run,
    inputs=(
        Input("views", Kind.VIEWS, "From the Views to Sheet node that made the sheets."),
        Input(
            "sheets",
            Kind.FRAMES,
            "The edited sheets, as a batch or list in the same order. At another size, they are scaled as a whole.",
            gathers=True,
        ),
    ),
    outputs=(
        Output("views_out", Kind.VIEWS, "Edited views for Fit Scene to Edited Views.", "views"),
        Output("images", Kind.IMAGES, "The edited images, as a batch.", of=lambda views: views.images),
    ),
    verb="sheet-to-views",
    has_device=False,
    note=summary,
)
