"""The bundled workflow that edits a scene with any image editor; nodes of ComfyUI itself stand in for the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs

# nine of those that are trained on
VIEWS = "0 2 3 4 5 7 8 9 10"
VIEW_SIZE = (160, 208)
QUICK_TRAINING = {"iterations": 1200, "budget": 4000}
# dark blue, as EmptyImage takes it: overlaid, it turns light colors blue and leaves white white
COLOR = 0x1038D0


def edit_with_image_editor(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadMultiViewVideo"),
        "2": node(info, "GS4D_Train4DScene", video=["1", 0], **QUICK_TRAINING),
        "3": node(info, "GS4D_SceneViews", scene=["2", 0], video=["1", 0], views=VIEWS, originals="captured"),
        "4": node(info, "GS4D_ViewsToSheet", views=["3", 0], rows=3, columns=3, size_for="multiple of 64"),
        "5": {
            **node(info, "EmptyImage", width=64, height=64, batch_size=1, color=COLOR),
            "_meta": {"title": "Stand-in editor: a color"},
        },
        "6": {
            **node(
                info, "ImageBlend", image1=["4", 1], image2=["5", 0], blend_factor=1.0, blend_mode="overlay"
            ),
            "_meta": {"title": "Stand-in editor: put Flux Kontext or Qwen-Image-Edit here"},
        },
        "7": node(info, "PreviewImage", images=["6", 0]),
        "8": node(info, "GS4D_SheetToViews", views=["4", 0], sheets=["6", 0]),
        "9": node(info, "GS4D_FitEdits", scene=["2", 0], views=["8", 0], iterations=400),
        "10": node(info, "GS4D_Save4DScene", scene=["9", 0], filename_prefix="gs4d/edited by image editor"),
        "11": node(info, "GS4D_CameraPath", scene=["9", 0], frames=60, width=384, height=384),
        "12": node(info, "GS4D_Render4DScene", scene=["9", 0], path=["11", 0], wants_depth=False),
        "13": node(info, "SaveVideo", video=["12", 4], filename_prefix="video/edited by image editor"),
        "14": node(info, "GS4D_Preview4DScene", scene=["2", 0], compare=["9", 0]),
    }


PLACES = {
    "1": (0, 0, 330, 350), "2": (0, 440, 330, 570),
    "3": (380, 0, 340, 350), "4": (380, 470, 340, 250),
    "5": (770, 0, 400, 170), "6": (770, 260, 400, 170), "7": (770, 520, 400, 480),
    "8": (1220, 0, 380, 130), "9": (1220, 230, 380, 830), "10": (1220, 1330, 380, 120),
    "11": (1650, 0, 310, 370), "12": (1650, 460, 310, 530), "13": (2000, 0, 420, 560),
    "14": (2480, 0, 600, 900),
}  # fmt: skip

GROUPS = [
    ("1 · Capture, quick training", (-20, -80, 370, 1580), "#3f789e"),
    ("2 · Views on one sheet", (360, -80, 380, 1580), "#3c6f7a"),
    ("3 · Edit: replace by your editor", (750, -80, 440, 1580), "#8a6f3c"),
    ("4 · Fit the scene to the edit", (1200, -80, 420, 1580), "#7a3c6f"),
    ("5 · Render along a camera path", (1630, -80, 810, 1580), "#3c7a4f"),
    ("6 · Compare before and after", (2460, -80, 640, 1580), "#3f789e"),
]

NOTE = """## Edit a moving scene with any image editor

Press **Run**. The demo scene is trained for a minute; nine of its images are put on one sheet; the sheet is edited; and the scene
is fitted to the edited images, at all frames. On the right it plays before and after: drag the divider.

**The editor here is a stand-in:** a blue color, overlaid by ComfyUI's own nodes, so that the graph runs on what ships.

**Flux Kontext or Qwen-Image-Edit:** open ComfyUI's own template for the model, copy its nodes into group 3, connect *sheets* of
Views to Sheet to the image that it edits, and its result to *sheets* of Sheet to Views. Set *size for* of Views to Sheet to the
model, and *resolution* of Scene Views to 400 or more. A graph with FluxKontextImageScale needs the size of Flux Kontext.

**Keep the background** as it is in the prompt: a scene on a plain background cannot show another one.

**One image at a time instead of sheets:** *images* of Scene Views → Rebatch Images (batch size 1) → the editor → *images* of Fit
Scene to Edited Views. Set *size for* in Scene Views. Edits then agree less."""

NOTE_PLACE = (-370, 0, 330, 760)


def thumbnail(base: Path) -> Any:
    """The views on the edited sheet above, frames of the edited scene below."""
    import workflow_pages as pages
    from PIL import Image

    edited = Image.open(
        max((base / "temp").glob("ComfyUI_temp_*.png"), key=lambda path: path.stat().st_mtime)
    )
    # without the padding around the views
    wide, tall = edited.size[0] // 3, edited.size[1] // 3
    views = []
    for place in (0, 1, 2):
        left, top = (
            place * each + (each - inner) // 2 for each, inner in zip((wide, tall), VIEW_SIZE, strict=True)
        )
        views.append(edited.crop((left, top, left + VIEW_SIZE[0], top + VIEW_SIZE[1])))
    frames = pages.movie_frames(base, "edited by*.mp4", 3)
    return pages.sheet([*(_square(view.convert("RGB")) for view in views), *frames], columns=3)


def _square(picture: Any) -> Any:
    """On white, which is the scene's background."""
    from PIL import Image

    made = Image.new("RGB", (max(picture.size),) * 2, picture.getpixel((picture.width // 2, 2)))
    made.paste(picture, tuple((side - part) // 2 for side, part in zip(made.size, picture.size, strict=True)))
    return made
