"""The bundled workflow that makes a moving scene of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs

SIDE = 256


def diff4splat(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadVideoClip", clip="demo: made_scene.mp4"),
        "2": node(
            info, "GS4D_CameraPath", kind="arc left", amount=0.5, frames=9, fps=8, width=SIDE, height=SIDE
        ),
        "3": node(info, "GS4D_LoadImageTo4D"),
        "4": node(info, "GS4D_GenerateFromImage", models=["3", 0], image=["1", 0], path=["2", 0], prompt=""),
        "5": node(info, "SaveVideo", video=["4", 1], filename_prefix="video/imagined"),
        "6": node(info, "GS4D_Save4DScene", scene=["4", 0], filename_prefix="gs4d/imagined"),
        "7": node(
            info, "GS4D_CameraPath", scene=["4", 0], kind="spiral", view=4, frames=32, width=384, height=384
        ),
        "8": node(info, "GS4D_Render4DScene", scene=["4", 0], path=["7", 0], wants_depth=False),
        "9": node(info, "SaveVideo", video=["8", 4], filename_prefix="video/beside"),
        "10": node(info, "GS4D_Preview4DScene", scene=["4", 0]),
    }


PLACES = {
    "1": (0, 0, 340, 130), "2": (0, 220, 340, 560),
    "3": (390, 0, 360, 170), "4": (390, 260, 360, 620),
    "5": (800, 0, 360, 420), "6": (800, 520, 360, 120),
    "7": (1210, 0, 310, 370), "8": (1210, 460, 310, 530), "9": (1560, 0, 420, 560),
    "10": (2050, 0, 600, 900),
}  # fmt: skip

GROUPS = [
    ("1 · Image, camera path", (-20, -80, 380, 1080), "#3f789e"),
    ("2 · Generate", (370, -80, 400, 1080), "#8a6f3c"),
    ("3 · The video, the scene", (780, -80, 400, 1080), "#3c6f7a"),
    ("4 · Render beside the path", (1190, -80, 810, 1080), "#3c7a4f"),
    ("5 · Preview", (2030, -80, 640, 1080), "#3f789e"),
]

NOTE = """## One image in, a moving scene out

Press **Run**. The first frame of the bundled clip and a camera path of 9 frames become a short video, and one pass of a
reconstruction model turns this video into Gaussians that move. A camera beside the path films the scene to `output/video`.

**Look at the video first** (*imagined*): what is wrong there is wrong in the scene. Another *seed* gives another video.

**Another path:** any *kind* of *Camera Path*; an *amount* of 0.2 to 0.7 (6 to 20 degrees) is what the model was trained with.

**Limits:** both networks are small (64 pixels), and saw only rooms with simple things made in code. Photographs are beyond
them: the scene of one is flat and blurred. For a video that you filmed or generated, use `lift_video.json`."""

NOTE_PLACE = (-370, 0, 330, 560)


def thumbnail(base: Path) -> Any:
    """The image and two frames of its video over renders beside the path."""
    import workflow_pages as pages

    made = pages.movie_frames(base, "imagined*.mp4", 9)
    shown = [made[i] for i in (0, 4, 8)]
    return pages.sheet([*shown, *pages.movie_frames(base, "beside*.mp4", 3)], columns=3)
