"""The bundled workflows that lift a video to a moving scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs

# a finished scene is trained on gently: what it shows off the frames must not drift
GENTLE = {
    "density": "none",
    "start_scale": 1.0,
    "views_per_step": 1,
    "position_rate": 5e-5,
    "scale_rate": 3e-3,
    "rotation_rate": 3e-4,
    "opacity_rate": 5e-3,
    "color_rate": 5e-3,
    "depth_weight": 0.1,
    "track_weight": 0.5,
}


def lift_video(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadVideoClip", clip="demo: room.mp4"),
        "2": node(
            info,
            "GS4D_LiftVideo",
            images=["1", 0],
            depth=["1", 2],
            frames_per_second=["1", 1],
            depth_kind="depth",
        ),
        "3": node(info, "GS4D_TrainingSettings", **GENTLE),
        "4": node(
            info,
            "GS4D_Train4DScene",
            video=["2", 3],
            settings=["3", 0],
            start=["2", 0],
            iterations=150,
            motion="per_frame",
            sh_degree=0,
            max_seconds=100,
            preview_every=25,
        ),
        "5": node(info, "GS4D_Save4DScene", scene=["4", 0], filename_prefix="gs4d/lifted"),
        "6": node(
            info,
            "GS4D_CameraPath",
            scene=["4", 0],
            kind="spiral",
            view=12,
            frames=60,
            speed=0.75,
            width=384,
            height=288,
        ),
        "7": node(info, "GS4D_Render4DScene", scene=["4", 0], path=["6", 0], wants_depth=False),
        "8": node(info, "SaveVideo", video=["7", 4], filename_prefix="video/lifted"),
        "9": node(info, "GS4D_Preview4DScene", scene=["2", 0], compare=["4", 0]),
    }


PLACES = {
    "1": (0, 0, 340, 130), "2": (0, 220, 340, 760),
    "3": (390, 0, 340, 900),
    "4": (780, 0, 360, 640), "5": (780, 760, 360, 120),
    "6": (1190, 0, 310, 370), "7": (1190, 460, 310, 530), "8": (1540, 0, 420, 560),
    "9": (2030, 0, 600, 900),
}  # fmt: skip

GROUPS = [
    ("1 · The video, lifted", (-20, -80, 380, 1180), "#3f789e"),
    ("2 · Refine: gentle rates", (370, -80, 380, 1180), "#3c6f7a"),
    ("3 · Refine: train on", (760, -80, 400, 1180), "#8a6f3c"),
    ("4 · Render along a camera path", (1170, -80, 810, 1180), "#3c7a4f"),
    ("5 · Compare lifted and refined", (2010, -80, 640, 1180), "#3f789e"),
]

NOTE = """## A flat video in, a moving scene out

Press **Run**. The bundled video (a figure walks through a room) and its depth become a moving scene: cameras are solved, what
stands still is fused from all frames, and the figure follows its tracks. *Train 4D Scene* then refines the scene with the same
frames. A camera leaves the path on which the video was filmed; that video is saved to `output/video`. On the right, drag the
divider between the lifted scene and the refined one.

**Your own video,** filmed or generated: *Load Video → Get Video Components*, and a depth node. Connect the geometry of Depth
Anything 3 or MoGe to *depth*, and set *depth kind* to auto. One shot, up to 121 frames.

**In a hurry:** connect *scene* of *Lift Video to 4D* instead of the training's.

**Limits:** what no frame shows is a hole; stay within 10 to 30 degrees. Smoke, reflections and what appears or vanishes are not
modeled. A camera that only turns cannot be solved."""

NOTE_PLACE = (-370, 0, 330, 620)


def thumbnail(base: Path) -> Any:
    """Frames of the video over renders beside its path."""
    import av
    import workflow_pages as pages

    clip = Path(__file__).resolve().parents[2] / "assets" / "clips" / "room" / "room.mp4"
    with av.open(str(clip)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    shown = [frames[i] for i in (2, 12, 22)]
    return pages.sheet([_square(p) for p in (*shown, *pages.movie_frames(base, "lifted*.mp4", 3))], columns=3)


def _square(picture: Any) -> Any:
    side = min(picture.size)
    left, top = ((each - side) // 2 for each in picture.size)
    return picture.crop((left, top, left + side, top + side))
