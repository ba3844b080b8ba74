"""Images that a node shows when it is done, without an output: files in ComfyUI's temp folder."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import folder_paths  # pyright: ignore[reportMissingImports]

from ..engine.figures import contact_sheets as sheets
from ..engine.figures.color_maps import ERROR_FULL, spread
from ..engine.figures.drawing import as_picture
from ..engine.figures.training_curves import TrainingCurves
from ..engine.files.atomic import write_atomically
from ..engine.steps.step import Comparison

QUALITY = 90
MOST_PAIRS = 24


def shown(*pictures: Any, photographic: bool = True) -> dict[str, Any] | None:
    """The `ui` of a NodeOutput that shows these PIL images; None if there are none.

    Files are named by their content, so that another run does not write a second copy. `photographic` images are saved as
    JPEG, drawn ones as PNG, because that is smaller.
    """
    found = [_saved(picture, photographic) for picture in pictures if picture is not None]
    return {"images": found} if found else None


def curves(record: TrainingCurves, title: str = "") -> dict[str, Any] | None:
    """The finished training curves, below the latest preview."""
    return shown(record.finished(title), photographic=record.image is not None)


def before_and_after(views: Any) -> dict[str, Any] | None:
    """Originals above their edited versions, for at most MOST_PAIRS views."""
    chosen = spread(len(views), MOST_PAIRS)
    captions = [views.caption(i) for i in chosen]
    return shown(sheets.before_and_after(views.originals[chosen], views.images[chosen], captions))


def compared(comparison: Comparison) -> dict[str, Any] | None:
    """Rows of four images, the last of them an error map, with captions and the map's scale."""
    if not len(comparison.rows):
        return None
    scale = sheets.Scale(comparison.columns[-1], f"{ERROR_FULL:.0%} or more")
    stacks = [[row] for row in comparison.rows]
    return shown(sheets.sheet(stacks, comparison.captions, 1, comparison.title, comparison.columns, scale))


def preview(found: list[Any]) -> dict[str, Any] | None:
    """The latest preview [H, W, 3] of a step."""
    return shown(as_picture(found[-1])) if found else None


def _saved(picture: Any, photographic: bool) -> dict[str, str]:
    buffer = BytesIO()
    if photographic:
        # color subsampling would blur small text
        picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    else:
        picture.save(buffer, "PNG", optimize=True)
    data = buffer.getvalue()
    name = f"gs4d_{hashlib.sha256(data).hexdigest()[:20]}.{'jpg' if photographic else 'png'}"
    path = Path(folder_paths.get_temp_directory()) / name
    if not path.is_file():
        with write_atomically(path) as partial:
            partial.write_bytes(data)
    return {"filename": name, "subfolder": "", "type": "temp"}
