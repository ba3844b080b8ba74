"""The bundled workflow that lets a splat dance."""

from __future__ import annotations

from typing import Any

import graphs


def animate_splat(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_Import4DScene", source="demo: clay_dancer.spz"),
        "2": node(info, "GS4D_AnimateSplatWithMesh", splat=["1", 0], mesh="demo: clay_dancer.glb"),
        "3": node(info, "GS4D_Save4DScene", scene=["2", 0], filename_prefix="gs4d/dancer"),
        "4": node(info, "GS4D_CameraPath", scene=["2", 0], frames=96, width=480, height=480),
        "5": node(info, "GS4D_Render4DScene", scene=["2", 0], path=["4", 0], wants_depth=False),
        "6": node(info, "SaveVideo", video=["5", 4], filename_prefix="video/dancer"),
        "7": node(info, "GS4D_Preview4DScene", scene=["2", 0]),
    }


PLACES = {
    "1": (0, 0, 340, 260), "2": (390, 0, 360, 460), "3": (390, 560, 360, 120),
    "4": (800, 0, 310, 320), "5": (1150, 0, 310, 320), "6": (1500, 0, 420, 560), "7": (1990, 0, 600, 900),
}  # fmt: skip

GROUPS = [
    ("1 · The splat", (-20, -80, 380, 380), "#3f789e"),
    ("2 · The mesh moves it", (370, -80, 400, 780), "#8a6f3c"),
    ("3 · Render along a camera path", (780, -80, 1160, 660), "#3c7a4f"),
    ("4 · Preview", (1970, -80, 640, 1000), "#3f789e"),
]

NOTE = """## A splat dances

Press **Run**. The bundled splat (a clay figure) moves as the bundled animated mesh does; it plays on the right and is rendered
to `output/video`. No model weights are needed.

**Another move:** type `Walk` or `Wave` into *action*.

**Your own:** connect any splat, or write its path into *source*. Put an animated `.glb` of the same subject into the `input`
folder, press **R** and choose it under *animated mesh*; or connect one to *3D model*: Create 3D Animation File, a rigged and
animated model, frames of a video-to-mesh model. Turn, size and place are found.

**Arms tear or smear:** set *method* to `interpolation`, or *matching pose* to the pose that the splat shows."""

NOTE_PLACE = (-370, 0, 330, 460)
