"""The bundled workflows that make a splat move as a video does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs


def gvf_diffusion(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadVideoClip"),
        "2": node(info, "GS4D_PrepareVideo", images=["1", 0], frames_per_second=["1", 1], size=256),
        "3": node(info, "GS4D_Import4DScene", source="demo: toy.ply", up="z up"),
        "4": node(info, "GS4D_LoadVariation"),
        "5": node(
            info,
            "GS4D_VariationDiffusion",
            models=["4", 0],
            splat=["3", 0],
            images=["2", 0],
            mask=["2", 1],
            fps=["2", 2],
            fit_steps=40,
        ),
        "6": node(info, "PreviewImage", images=["5", 1]),
        "7": node(info, "GS4D_Save4DScene", scene=["5", 0], filename_prefix="gs4d/animated"),
        "8": node(info, "GS4D_CameraPath", scene=["5", 0], frames=32, width=384, height=384),
        "9": node(info, "GS4D_Render4DScene", scene=["5", 0], path=["8", 0], wants_depth=False),
        "10": node(info, "SaveVideo", video=["9", 4], filename_prefix="video/animated"),
        "11": node(info, "GS4D_Preview4DScene", scene=["5", 0]),
    }


PLACES = {
    "1": (0, 0, 340, 130), "2": (0, 220, 340, 460),
    "3": (390, 0, 340, 300), "4": (390, 390, 340, 160),
    "5": (780, 0, 360, 470), "6": (780, 560, 360, 420), "7": (390, 640, 340, 120),
    "8": (1190, 0, 310, 370), "9": (1190, 460, 310, 530), "10": (1540, 0, 420, 560),
    "11": (2030, 0, 600, 900),
}  # fmt: skip

GROUPS = [
    ("1 · The video", (-20, -80, 380, 1080), "#3f789e"),
    ("2 · The splat, the model", (370, -80, 380, 1080), "#3c6f7a"),
    ("3 · Animate", (760, -80, 400, 1080), "#8a6f3c"),
    ("4 · Render along a camera path", (1170, -80, 810, 1080), "#3c7a4f"),
    ("5 · Preview", (2010, -80, 640, 1080), "#3f789e"),
]

NOTE = """## A video in, a moving splat out

Press **Run**. The bundled splat (a toy) moves as the bundled video shows; it plays on the right and is rendered to
`output/video`. One pass of a small model, trained for this pack, makes the motion; 40 *fit steps* bring it closer to the
video.

**Your own clip:** a simple moving object on a plain background, one still camera. Put it into the `input` folder, press
**R** and choose it under *clip*, or connect *Load Video*. The splat must show the same object as the first frame does: any
splat node, a `.ply`, or a scene. *Align Splat to Video* turns it to the video's view.

**Limits:** the small model knows simple articulated toys, tubes, a body and a dog. For real objects use GVFDiffusion's own
weights (`gvf_diffusion_trellis.json`)."""

NOTE_PLACE = (-370, 0, 330, 520)


def thumbnail(base: Path) -> Any:
    """Frames of the video over renders of the scene."""
    import workflow_pages as pages
    from PIL import Image

    renders = pages.movie_frames(base, "animated*.mp4", 3)
    shown = sorted((base / "temp").glob("*.png"))
    frames = [Image.open(shown[i * len(shown) // 3]).convert("RGB") for i in range(3)]
    return pages.sheet([*frames, *renders], columns=3)


# -- with the published weights -------------------------------------------------------------------------------------

# names of folders and files as their authors publish them
ENCODER, TRELLIS, VARIATION = "dinov2-with-registers-large", "TRELLIS-image-large", "gvfdiffusion"
CANONICAL_VAE = f"{VARIATION}/ema_static_vae_0.9999_200000"


def gvf_diffusion_trellis(info: dict[str, Any]) -> dict[str, Any]:
    node, graph = graphs.node, gvf_diffusion(info)
    trellis = node(info, "GS4D_LoadTrellis", trellis=TRELLIS, image_encoder=ENCODER, decoder=CANONICAL_VAE)
    graph["2"]["inputs"]["size"] = 512
    graph["3"] = node(info, "GS4D_CanonicalFromImage", models=["12", 0], image=["2", 0], mask=["2", 1])
    graph["4"] = node(info, "GS4D_LoadVariation", model=VARIATION, image_encoder=ENCODER)
    graph["5"]["inputs"] |= {"splat": ["13", 0], "fit_steps": 0}
    return graph | {
        "12": trellis,
        "13": node(info, "GS4D_AlignSplat", splat=["3", 0], images=["2", 0], mask=["2", 1]),
        "14": node(info, "PreviewImage", images=["13", 1]),
    }


TRELLIS_PLACES = {
    **PLACES,
    "12": (390, 0, 360, 200), "3": (390, 290, 360, 420), "13": (790, 0, 360, 420), "14": (790, 510, 360, 420),
    "4": (1190, 0, 360, 160), "5": (1190, 250, 360, 600), "6": (1190, 940, 360, 300), "7": (1600, 1080, 310, 120),
    "8": (1600, 0, 310, 370), "9": (1600, 460, 310, 530), "10": (1950, 0, 420, 560),
    "11": (2440, 0, 600, 900),
}  # fmt: skip

TRELLIS_GROUPS = [
    ("1 · The video", (-20, -80, 380, 1340), "#3f789e"),
    ("2 · Gaussians from its first frame", (370, -80, 400, 1340), "#3c6f7a"),
    ("3 · Turn them to the video", (770, -80, 400, 1340), "#7a3c6f"),
    ("4 · Animate", (1170, -80, 400, 1340), "#8a6f3c"),
    ("5 · Render along a camera path", (1580, -80, 810, 1340), "#3c7a4f"),
    ("6 · Preview", (2420, -80, 640, 1340), "#3f789e"),
]

TRELLIS_NOTE = """## A video in, a moving splat out, with the published weights

TRELLIS makes Gaussians from the first frame, *Align Splat to Video* turns them to the video's view, and GVFDiffusion makes them
move as the video shows.

**Models.** Download these from Hugging Face into `models/gs4d` and press **R**:

* `BwZhang/GaussianVariationFieldDiffusion` → `models/gs4d/gvfdiffusion`
* `microsoft/TRELLIS-image-large` → `models/gs4d/TRELLIS-image-large`
* `facebook/dinov2-with-registers-large` → `models/gs4d/dinov2-with-registers-large`

A GPU is needed: on two CPU cores, one of the fifty steps of TRELLIS takes minutes.

**Your own clip:** choose it under *clip*. One subject, one still camera; *Prepare Video* cuts it out."""
