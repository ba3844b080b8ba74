"""The bundled workflow of Edit3DGS: nodes, positions on the canvas, note, and thumbnail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs

CAPTURE = "demo: talking_head"
DRIVER = f"{CAPTURE}/driver"
# the same images for the masks and for the edit
VIEWS, FRAMES = "all", "0 6"


def edit3dgs(info: dict[str, Any]) -> dict[str, Any]:
    """Train a head, edit images of two frames with its eyes and mouth kept, fit it to them, drive it."""
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadMultiViewVideo", clip=CAPTURE),
        "2": node(info, "GS4D_LoadHead", motion=CAPTURE),
        "3": node(
            info,
            "GS4D_Train4DScene",
            video=["1", 0],
            head=["2", 0],
            iterations=1000,
            budget=12000,
            sh_degree=0,
        ),
        "12": {
            **node(info, "PrimitiveStringMultiline", value="dye the hair blue"),
            "_meta": {"title": "Prompt"},
        },
        "4": node(info, "GS4D_LoadGuidance"),
        "13": node(info, "GS4D_SceneViews", scene=["3", 0], views=VIEWS, moments=FRAMES),
        "14": node(info, "GS4D_HeadRegionMask", scene=["3", 0], head=["2", 0], views=["13", 0], grow=3),
        "5": node(
            info,
            "GS4D_EditViews",
            scene=["3", 0],
            guidance=["4", 0],
            video=["1", 0],
            prompt=["12", 0],
            keep=["14", 0],
            views=VIEWS,
            moments=FRAMES,
            attention="epipolar",
        ),
        "6": node(info, "PreviewImage", images=["5", 1]),
        "7": node(info, "GS4D_FitEdits", scene=["3", 0], views=["5", 0], iterations=400),
        "8": node(info, "GS4D_LoadHead", motion=DRIVER, frames_per_second=12.0),
        "9": node(info, "GS4D_DriveHead", scene=["3", 0], head=["2", 0], driver=["8", 0]),
        "10": node(info, "GS4D_DriveHead", scene=["7", 0], head=["2", 0], driver=["8", 0]),
        "11": node(info, "GS4D_Save4DScene", scene=["10", 0], filename_prefix="gs4d/edited head"),
        "15": node(
            info, "GS4D_CameraPath", scene=["10", 0], kind="spiral", view=3, frames=48, width=384, height=512
        ),
        "16": node(info, "GS4D_Render4DScene", scene=["10", 0], path=["15", 0], wants_depth=False),
        "17": node(info, "SaveVideo", video=["16", 4], filename_prefix="video/edited head"),
        "20": node(info, "GS4D_Preview4DScene", scene=["9", 0], compare=["10", 0]),
    }


NOTE = """## Edit a talking head, keep its expressions, drive it

Press **Run**. The demo head is trained on its mesh, images of two frames are edited together, and the head is fitted to them.
Then another person's motion, which was not in the training, drives it. On the right it plays before and after: drag the divider.

**Eyes and mouth keep their expression:** Head Region Mask draws them from the mesh, and Edit Views keeps what they cover.

**Expressions:** a prompt changes how the head looks, not its expression; for a smile or a gaze, insert *Pose Head*.

The bundled model knows *blue hair, green skin, older, snow, night, golden hour, fog, black and white, gold, bronze and marble
statues, red, green* and *blue*. For free-form prompts use InstructPix2Pix: see the help of Load Diffusion Guidance.

**Your own head:** see docs/heads.md for captures tracked with FLAME.

Cancel at any time: the progress is kept, and the next run resumes from there."""

PLACES: dict[str, tuple[float, float, float, float]] = {
    "1": (0, 0, 330, 350), "2": (0, 440, 330, 160), "3": (0, 680, 330, 590),
    "12": (380, 0, 360, 120), "4": (380, 190, 360, 160), "13": (380, 430, 360, 240), "14": (380, 760, 360, 520),
    "5": (790, 0, 360, 1000), "6": (1200, 0, 420, 480), "7": (1200, 560, 420, 830),
    "8": (1670, 0, 330, 160), "9": (1670, 240, 330, 220), "10": (1670, 540, 330, 220), "11": (1670, 840, 330, 140),
    "15": (2050, 0, 310, 370), "16": (2050, 460, 310, 530), "17": (2410, 0, 420, 560),
    "20": (2880, 0, 600, 900),
}  # fmt: skip
GROUPS = [
    ("1 · Capture, head, quick training", (-20, -80, 370, 1700), "#3f789e"),
    ("2 · Edit images with a prompt, keep the expression", (360, -80, 810, 1700), "#8a6f3c"),
    ("3 · Fit the head", (1180, -80, 460, 1700), "#7a3c6f"),
    ("4 · Drive it", (1650, -80, 370, 1700), "#3c7a4f"),
    ("5 · Render", (2030, -80, 820, 1700), "#3f789e"),
    ("6 · Compare before and after", (2860, -80, 640, 1700), "#8a6f3c"),
]
NOTE_PLACE = (-370.0, 0.0, 330.0, 700.0)


def thumbnail(base: Path) -> Any:
    """Captured images above, the edited and driven head below."""
    from PIL import Image
    from workflow_pages import movie_frames, sheet

    images = Path(__file__).resolve().parents[2] / "assets" / "clips" / "talking_head" / "images"
    before = [Image.open(path) for path in (images / "00000_03.jpg", images / "00012_04.jpg")]
    squares = [
        _square(image.convert("RGB")) for image in [*before, *movie_frames(base, "edited head*.mp4", 2)]
    ]
    return sheet(squares)


def _square(image: Any) -> Any:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 4
    return image.crop((left, top, left + side, top + side))
