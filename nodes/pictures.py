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
from ..engine.scene import MultiViewVideo
from ..engine.steps.step import Comparison
from .host import LivePreviews

QUALITY = 90
MOST_PAIRS = 24
MOST_VIEWS = 12
# least pixels on the longer side of a view of a capture
THUMBNAIL = 256


def shown(picture: Any, live: LivePreviews, photographic: bool = True) -> dict[str, Any] | None:
    """The `ui` of a NodeOutput that shows this PIL image; None for None. After live previews it is the last of them, too.

    Files are named by their content, so that another run does not write a second copy. A `photographic` image is saved as
    JPEG, a drawn one as PNG, which is smaller.
    """
    if picture is None:
        return None
    if live.streamed:
        live.show(picture)
    return {"images": [_saved(picture, photographic)]}


def curves(record: TrainingCurves, live: LivePreviews, title: str = "") -> dict[str, Any] | None:
    """The finished training curves, below the latest preview."""
    return shown(record.finished(title), live, photographic=record.image is not None)


def before_and_after(views: Any, live: LivePreviews) -> dict[str, Any] | None:
    """Originals above their edited versions, for at most MOST_PAIRS views."""
    chosen = spread(len(views), MOST_PAIRS)
    captions = [views.caption(i) for i in chosen]
    return shown(sheets.before_and_after(views.originals[chosen], views.images[chosen], captions), live)


def compared(comparison: Comparison, live: LivePreviews) -> dict[str, Any] | None:
    """Rows of four images, the last of them an error map, with captions and the map's scale."""
    if not len(comparison.rows):
        return None
    scale = sheets.Scale(comparison.columns[-1], f"{ERROR_FULL:.0%} or more")
    stacks = [[row] for row in comparison.rows]
    return shown(
        sheets.sheet(stacks, comparison.captions, 1, comparison.title, comparison.columns, scale), live
    )


def capture(video: MultiViewVideo) -> dict[str, Any] | None:
    """The first image of up to MOST_VIEWS views of a capture, with their names."""
    chosen = [v for v in range(video.views) if bool(video.available[v].any())]
    chosen = [chosen[i] for i in spread(len(chosen), MOST_VIEWS)]
    images: list[Any] = []
    for v in chosen:
        image = video.source.read(v, int(video.available[v].nonzero()[0])).image
        step = max(max(image.shape[:2]) // THUMBNAIL, 1)
        images.append([image[::step, ::step, :3].float() / 255])
    return (
        shown(sheets.sheet(images, [video.cameras.names[v] for v in chosen]), LivePreviews(None))
        if images
        else None
    )


def preview(live: LivePreviews) -> dict[str, Any] | None:
    """The latest preview of a step."""
    return shown(as_picture(live.latest), live) if live.latest is not None else None


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
