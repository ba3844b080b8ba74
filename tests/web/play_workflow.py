"""The bundled workflow that plays the demo scene and edits it with a prompt: nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs

SCENE = "demo: walker"
SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "scenes" / "walker" / "walker.safetensors"
PROMPT = "turn it into a gold statue"
# of twelve: each image is edited
VIEWS = "0 1 3 4 5 7 8 10 11"


def play_and_edit(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_Load4DScene", scene_file=SCENE),
        # their movies, for where nothing plays, would take seconds
        "2": node(info, "GS4D_Preview4DScene", scene=["1", 0], makes_movie=False),
        "3": node(info, "GS4D_LoadGuidance"),
        "4": node(info, "GS4D_EditViews", scene=["1", 0], guidance=["3", 0], prompt=PROMPT, views=VIEWS),
        "5": node(info, "PreviewImage", images=["4", 1]),
        "6": node(info, "GS4D_FitEdits", scene=["1", 0], views=["4", 0]),
        "7": node(info, "GS4D_Preview4DScene", scene=["1", 0], compare=["6", 0], makes_movie=False),
        "8": node(info, "GS4D_Save4DScene", scene=["6", 0], filename_prefix="gs4d/gold walker"),
    }


PLACES = {
    "1": (0, 0, 360, 130), "2": (410, 0, 560, 760),
    "3": (1020, 0, 360, 160), "4": (1020, 260, 360, 864),
    "5": (1430, 0, 420, 480), "6": (1430, 580, 420, 830),
    "7": (1900, 0, 640, 900), "8": (1900, 1000, 640, 120),
}  # fmt: skip

GROUPS = [
    ("1 · The demo scene", (-20, -80, 1010, 1620), "#3f789e"),
    ("2 · Edit it with a prompt", (1000, -80, 870, 1620), "#8a6f3c"),
    ("3 · Compare before and after", (1880, -80, 680, 1620), "#3c7a4f"),
]

NOTE = """## Play a moving 3D scene, and edit it

Press **Run**. The demo scene plays at once: drag to orbit, scrub through time. Meanwhile nine images of it are
edited with the prompt, and the scene is fitted to them: all frames and all views change, the motion stays. On the right it plays
before and after: drag the divider. The edited scene is saved to `output/gs4d`.

**Another edit:** change the *prompt*. The bundled model is small and knows *night, golden hour, fog, black and white, gold,
bronze and marble statues, red, green* and *blue*. For free-form prompts use InstructPix2Pix: see the help of Load Diffusion
Guidance.

**Only colors:** Grade Scene changes them at once, without a model.

**A scene of your own:** *Train & Render* (workflow `train_and_render`) makes one of videos; choose it in Load 4D Scene.

Cancel at any time: the progress is kept, and the next run resumes from there."""

NOTE_PLACE = (-370, 0, 330, 720)


def thumbnail(base: Path) -> Any:
    """Two frames of the scene above, the same two edited below."""
    import torch
    import workflow_pages as pages
    from PIL import Image

    from engine.io.scene_file import load_scene
    from engine.render import choose, render_gaussians

    made: list[Any] = []
    for path in (SHIPPED, next((base / "output" / "gs4d").glob("gold walker*.safetensors"))):
        scene, rasterizer = load_scene(path), choose()
        for frame in (2, len(scene.times) // 2):
            moment = scene.at(float(scene.times[frame]))
            image = render_gaussians(moment, scene.rig[0], rasterizer, scene.background).rgb[0].clamp(0, 1)
            # the head and what is below it
            side = min(image.shape[:2])
            made.append(Image.fromarray((image[:side, :side] * 255).to(torch.uint8).numpy()))
    return pages.sheet(made)
