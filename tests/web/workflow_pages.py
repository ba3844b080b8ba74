"""The bundled workflows: nodes, positions on the canvas, notes, and thumbnails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import animate_workflow
import editor_workflow
import generate_workflow
import graphs
import head_workflow
import image_workflow
import lift_workflow
import play_workflow
import wan_workflow

CLOSE_UP = (355, -45, 415, 545)  # x, y, width, height on the canvas
SIDE = 256  # pixels of one picture of a thumbnail
Place = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True)
class WorkflowPage:
    name: str
    graph: Callable[[dict[str, Any]], dict[str, Any]]  # from /object_info to ComfyUI's API format
    places: dict[str, Place]  # by node id
    groups: list[tuple[str, Place, str]]
    note: str
    note_place: Place
    # from the base folder of a run to a PIL image; None where it cannot run on what ships: a part of the canvas then
    thumbnail: Callable[[Path], Any] | None


def movie_frames(base: Path, pattern: str, count: int) -> list[Any]:
    """`count` frames spread over a movie in the output folder."""
    import av

    with av.open(str(next((base / "output" / "video").glob(pattern)))) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    return [frames[i * len(frames) // count] for i in range(count)]


def sheet(pictures: list[Any], columns: int = 2) -> Any:
    """Squares in rows."""
    from PIL import Image

    rows = -(-len(pictures) // columns)
    made = Image.new("RGB", (columns * SIDE, rows * SIDE), "white")
    for i, picture in enumerate(pictures):
        made.paste(picture.resize((SIDE, SIDE)), (i % columns * SIDE, i // columns * SIDE))
    return made


# -- train and render -------------------------------------------------------------------------------------------------


def train_and_render(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadMultiViewVideo"),
        "2": node(info, "GS4D_PreflightCheck", video=["1", 0]),
        "3": node(info, "PreviewAny", source=["2", 0]),
        "4": node(info, "GS4D_Train4DScene", video=["1", 0], max_seconds=180),
        "5": node(info, "GS4D_Save4DScene", scene=["4", 0], filename_prefix="gs4d/walker"),
        "6": node(info, "GS4D_CameraPath", scene=["4", 0], frames=72, width=480, height=480),
        "7": node(info, "GS4D_Render4DScene", scene=["4", 0], path=["6", 0]),
        "8": node(info, "SaveVideo", video=["7", 4], filename_prefix="video/walker"),
        "9": node(info, "GS4D_EvaluateScene", scene=["4", 0], video=["1", 0], every=5),
        "10": node(info, "PreviewImage", images=["9", 0]),
        "11": node(info, "GS4D_Preview4DScene", scene=["4", 0]),
    }


TRAIN_NOTE = """## Multi-view video in, moving 3D scene out

Press **Run**. The demo scene (a walking figure, 12 cameras) is trained for up to three minutes and plays on the right: drag to
orbit, scrub through time. A camera orbits it while it walks; that video is saved to `output/video`.

**Your own capture:** put its folder into ComfyUI's `input` folder, press **R** to refresh, choose it under *clip*.

**Sharper:** set *max seconds* to 0 and raise *iterations* and *max Gaussians*.
**Slow motion:** set *speed* to 0.25; **frozen time:** 0.

Cancel at any time: the progress is kept, and the next run resumes from there."""

# -- edit with a prompt -------------------------------------------------------------------------------------------

PROMPT = "turn it into a gold statue"
QUICK_TRAINING = {"iterations": 1200, "budget": 4000}  # a minute on two cores; enough to be edited


def instruct_4dgs(info: dict[str, Any]) -> dict[str, Any]:
    return {"4": graphs.node(info, "GS4D_LoadGuidance"), **_edited(info)}


def instruct_4dgs_checkpoint(info: dict[str, Any]) -> dict[str, Any]:
    loader = graphs.node(info, "CheckpointLoaderSimple")
    # the file's name as its authors publish it
    loader["inputs"]["ckpt_name"] = "instruct-pix2pix-00-22000.safetensors"
    wired = graphs.node(info, "GS4D_GuidanceFromModel", model=["13", 0], clip=["13", 1], vae=["13", 2])
    return {"13": loader, "4": wired, **_edited(info)}


def _edited(info: dict[str, Any]) -> dict[str, Any]:
    """From clip to edited video; node 4 brings the guidance."""
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadMultiViewVideo"),
        "2": node(info, "GS4D_Train4DScene", video=["1", 0], **QUICK_TRAINING),
        "12": {**node(info, "PrimitiveStringMultiline", value=PROMPT), "_meta": {"title": "Prompt"}},
        "3": node(
            info, "GS4D_EditViews", scene=["2", 0], guidance=["4", 0], video=["1", 0], prompt=["12", 0]
        ),
        "5": node(info, "PreviewImage", images=["3", 1]),
        "6": node(info, "GS4D_FitEdits", scene=["2", 0], views=["3", 0], iterations=400),
        "7": node(
            info,
            "GS4D_RefineScore",
            scene=["6", 0],
            guidance=["4", 0],
            video=["1", 0],
            prompt=["12", 0],
            iterations=20,
        ),
        "8": node(info, "GS4D_Save4DScene", scene=["7", 0], filename_prefix="gs4d/edited"),
        "9": node(info, "GS4D_CameraPath", scene=["7", 0], frames=60, width=384, height=384),
        "10": node(info, "GS4D_Render4DScene", scene=["7", 0], path=["9", 0], wants_depth=False),
        "11": node(info, "SaveVideo", video=["10", 4], filename_prefix="video/edited"),
        "20": node(info, "GS4D_Preview4DScene", scene=["2", 0], compare=["7", 0]),
    }


def _before_and_after(base: Path) -> Any:
    """Captured above, the edited scene below."""
    import av
    from PIL import Image

    clip = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker" / "videos"
    before = []
    for name in ("cam01.mp4", "cam05.mp4"):
        with av.open(str(clip / name)) as container:
            frame = next(container.decode(video=0)).to_image()
        square = Image.new("RGB", (max(frame.size),) * 2, frame.getpixel((0, 0)))
        square.paste(
            frame, tuple((side - part) // 2 for side, part in zip(square.size, frame.size, strict=True))
        )
        before.append(square)
    return sheet([*before, *movie_frames(base, "edited*.mp4", 2)])


EDIT_NOTE = """## Edit a moving scene with a prompt

Press **Run**. The demo scene is trained for a minute, ten views of its first frame are edited together, the scene is fitted to
them (all frames change, the motion stays), refined, and rendered. On the right it plays before and after: drag the divider.
The video is saved to `output/video`.

The bundled model knows *night, golden hour, fog, black and white, gold, bronze and marble statues, red, green*
and *blue*. {more}

**Check the edited views** before you continue: another *seed* or *guidance scale* gives different ones, and any image node can
go in between (connect its images to *images* of Fit Scene to Edited Views).

**Local edits:** Scene Views → a mask → Lift Mask to Gaussians → *selection*.

Cancel at any time: the progress is kept, and the next run resumes from there."""
FREE_WORDING = (
    "For free-form prompts use InstructPix2Pix: see the help of Load Diffusion Guidance, or the workflow "
    "`instruct_4dgs_checkpoint`."
)
WITH_CHECKPOINT = (
    "This graph uses InstructPix2Pix from ComfyUI's own loader instead: put `instruct-pix2pix-00-22000.safetensors` "
    "into `models/checkpoints` and press **R**. LoRAs can go in between; a GPU with 6 GB is recommended for speed."
)
# nodes are as high as they become with the pictures that they show when they are done, those with a long text (it would
# take the room) have it below
EDIT_PLACES: dict[str, Place] = {
    "1": (0, 0, 330, 350), "2": (0, 440, 330, 570),
    "12": (380, 0, 360, 120), "4": (380, 190, 360, 160), "3": (380, 430, 360, 760),
    "5": (780, 0, 420, 480), "6": (780, 560, 420, 830),
    "7": (1250, 0, 360, 800), "8": (1250, 1150, 360, 140),
    "9": (1660, 0, 310, 370), "10": (1660, 460, 310, 530), "11": (2010, 0, 420, 560),
    "20": (2490, 0, 600, 900),
}  # fmt: skip
EDIT_GROUPS = [
    ("1 · Capture, quick training", (-20, -80, 370, 1600), "#3f789e"),
    ("2 · Edit its views with a prompt, fit the scene", (360, -80, 860, 1600), "#8a6f3c"),
    ("3 · Refine and save", (1230, -80, 400, 1600), "#7a3c6f"),
    ("4 · Render along a camera path", (1640, -80, 810, 1600), "#3c7a4f"),
    ("5 · Compare before and after", (2470, -80, 640, 1600), "#3f789e"),
]
_EDIT = {"groups": EDIT_GROUPS, "note_place": (-370, 0, 330, 620), "thumbnail": _before_and_after}

# -- edit in latent space ---------------------------------------------------------------------------------------------

KEEP = "leave it as it is"
# the bundled model knows its edits at the noisy end of its schedule
SMALL_MODEL = {
    "iterations": 50,
    "guidance_scale": 1.4,
    "feature_rate": 0.1,
    "image_guidance_scale": 1.0,
    "weighting": "picture",
    "min_timestep": 0.6,
    "max_timestep": 1.0,
    "preview_every": 10,
}
CAPTION, GOLDEN = "a photo of a person walking", "a photo of a gold statue of a person walking"


def ed_nerf(info: dict[str, Any]) -> dict[str, Any]:
    return {
        "4": graphs.node(info, "GS4D_LoadGuidance"),
        **_in_latents(info, KEEP, PROMPT, SMALL_MODEL, {"iterations": 200}),
    }


def ed_nerf_checkpoint(info: dict[str, Any]) -> dict[str, Any]:
    loader = graphs.node(info, "CheckpointLoaderSimple")
    loader["inputs"]["ckpt_name"] = "v1-5-pruned-emaonly-fp16.safetensors"  # as its publisher names it
    wired = graphs.node(info, "GS4D_GuidanceFromModel", model=["13", 0], clip=["13", 1], vae=["13", 2])
    return {"13": loader, "4": wired, **_in_latents(info, CAPTION, GOLDEN, {"guidance_scale": 7.5}, {})}


def _in_latents(
    info: dict[str, Any], before: str, after: str, edit: dict[str, Any], field: dict[str, Any]
) -> dict[str, Any]:
    """From clip to edited video by way of latents; node 4 brings the guidance."""
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadMultiViewVideo"),
        "2": node(info, "GS4D_Train4DScene", video=["1", 0], **QUICK_TRAINING),
        "3": node(
            info, "GS4D_TrainLatentField", scene=["2", 0], guidance=["4", 0], video=["1", 0], **field
        ),
        "14": {**node(info, "PrimitiveStringMultiline", value=before), "_meta": {"title": "Source prompt"}},
        "12": {**node(info, "PrimitiveStringMultiline", value=after), "_meta": {"title": "Prompt"}},
        "6": node(
            info, "GS4D_DeltaEdit", field=["3", 0], guidance=["4", 0], source_prompt=["14", 0], prompt=["12", 0], **edit
        ),
        "15": node(info, "GS4D_DecodeLatents", field=["6", 0], guidance=["4", 0]),
        "5": node(info, "PreviewImage", images=["15", 1]),
        "7": node(info, "GS4D_LatentsToScene", field=["6", 0], guidance=["4", 0], iterations=300),
        "8": node(info, "GS4D_Save4DScene", scene=["7", 0], filename_prefix="gs4d/edited in latents"),
        "9": node(info, "GS4D_CameraPath", scene=["7", 0], frames=60, width=384, height=384),
        "10": node(info, "GS4D_Render4DScene", scene=["7", 0], path=["9", 0], wants_depth=False),
        "11": node(info, "SaveVideo", video=["10", 4], filename_prefix="video/edited in latents"),
        "20": node(info, "GS4D_Preview4DScene", scene=["2", 0], compare=["7", 0]),
    }  # fmt: skip


LATENT_NOTE = """## Edit a moving scene in a diffusion model's latent space

Press **Run**. The demo scene is trained for a minute; its Gaussians learn the model's latents; the latents are edited along the
difference between two prompts (ED-NeRF's delta denoising); and the scene is fitted to the edit, at all frames. On the right it
plays before and after: drag the divider. The video is saved to `output/video`.

**Two prompts:** one for the scene as it is, one for the result. Only their difference has an effect. {more}

**Check the decoded views** before you continue: more *iterations* or a higher *guidance scale* in the delta edit change more.

**Local edits:** Scene Views → a mask → Lift Mask to Gaussians → *selection* of the delta edit: nothing else changes.

Cancel at any time: the progress is kept, and the next run resumes from there."""
WITH_SMALL_MODEL = (
    "The bundled model takes instructions: *leave it as it is* versus the edit. It knows *night, golden hour, fog, "
    "black and white, gold, bronze* and *marble statues, red, green* and *blue*."
)
WITH_STABLE_DIFFUSION = (
    "This graph uses Stable Diffusion 1.5 from ComfyUI's own loader: put `v1-5-pruned-emaonly-fp16.safetensors` into "
    "`models/checkpoints` and press **R**. It takes captions: describe what stays in both. LoRAs can go in between; a GPU "
    "with 6 GB is recommended for speed."
)
LATENT_PLACES: dict[str, Place] = {
    "1": (0, 0, 330, 350), "2": (0, 440, 330, 570),
    "4": (380, 0, 360, 160), "3": (380, 250, 360, 830),
    "14": (780, 0, 360, 110), "12": (780, 190, 360, 110), "6": (780, 390, 360, 900),
    "15": (1180, 0, 420, 540), "5": (1180, 630, 420, 560),
    "7": (1650, 0, 360, 900), "8": (1650, 990, 360, 140),
    "9": (2060, 0, 310, 370), "10": (2060, 460, 310, 530), "11": (2410, 0, 420, 560),
    "20": (2890, 0, 600, 900),
}  # fmt: skip
_LATENT = {
    "groups": [
        ("1 · Capture, quick training", (-20, -80, 370, 1810), "#3f789e"),
        ("2 · Train the latent field", (360, -80, 400, 1810), "#3c6f7a"),
        ("3 · Edit it with two prompts, check the views", (770, -80, 850, 1810), "#8a6f3c"),
        ("4 · Convert to a scene and save", (1630, -80, 400, 1810), "#7a3c6f"),
        ("5 · Render along a camera path", (2040, -80, 810, 1810), "#3c7a4f"),
        ("6 · Compare before and after", (2870, -80, 640, 1810), "#3f789e"),
    ],
    "note_place": (-370, 0, 330, 620),
    "thumbnail": _before_and_after,
}

PAGES = {
    page.name: page
    for page in (
        WorkflowPage(
            "train_and_render",
            train_and_render,
            {
                "1": (0, 0, 330, 320), "2": (0, 440, 330, 420), "3": (370, 90, 300, 770),
                "4": (720, 0, 360, 640), "5": (720, 740, 360, 120),
                "6": (1130, 0, 310, 320), "7": (1480, 0, 310, 320), "8": (1840, 0, 420, 560),
                "9": (1130, 680, 330, 520), "10": (1490, 680, 770, 520),
                "11": (2320, 0, 600, 900),
            },
            [
                ("1 · Load and check the capture", (-20, -80, 710, 960), "#3f789e"),
                ("2 · Train", (700, -80, 400, 960), "#8a6f3c"),
                ("3 · Render along a camera path", (1110, -80, 1170, 660), "#3c7a4f"),
                ("4 · Evaluate on held-out views", (1110, 600, 1170, 620), "#7a3c6f"),
                ("5 · Preview", (2300, -80, 640, 1300), "#3f789e"),
            ],
            TRAIN_NOTE,
            (-350, 0, 310, 440),
            lambda base: sheet(movie_frames(base, "*.mp4", 4)),
        ),
        WorkflowPage(
            "instruct_4dgs",
            instruct_4dgs,
            EDIT_PLACES,
            note=EDIT_NOTE.format(more=FREE_WORDING),
            **_EDIT,
        ),
        WorkflowPage(
            "instruct_4dgs_checkpoint",
            instruct_4dgs_checkpoint,
            {**EDIT_PLACES, "13": (380, 190, 360, 100), "4": (380, 370, 360, 130), "3": (380, 590, 360, 680)},
            note=EDIT_NOTE.format(more=WITH_CHECKPOINT),
            **{**_EDIT, "thumbnail": None},
        ),
        WorkflowPage(
            "edit3dgs",
            head_workflow.edit3dgs,
            head_workflow.PLACES,
            head_workflow.GROUPS,
            head_workflow.NOTE,
            head_workflow.NOTE_PLACE,
            head_workflow.thumbnail,
        ),
        WorkflowPage(
            "ed_nerf", ed_nerf, LATENT_PLACES, note=LATENT_NOTE.format(more=WITH_SMALL_MODEL), **_LATENT
        ),
        WorkflowPage(
            "ed_nerf_checkpoint",
            ed_nerf_checkpoint,
            {**LATENT_PLACES, "13": (380, 0, 360, 100), "4": (380, 180, 360, 130), "3": (380, 400, 360, 830)},
            note=LATENT_NOTE.format(more=WITH_STABLE_DIFFUSION),
            **{**_LATENT, "thumbnail": None},
        ),
        WorkflowPage(
            "animate_splat",
            animate_workflow.animate_splat,
            animate_workflow.PLACES,
            animate_workflow.GROUPS,
            animate_workflow.NOTE,
            animate_workflow.NOTE_PLACE,
            lambda base: sheet(movie_frames(base, "dancer*.mp4", 4)),
        ),
        WorkflowPage(
            "gvf_diffusion",
            generate_workflow.gvf_diffusion,
            generate_workflow.PLACES,
            generate_workflow.GROUPS,
            generate_workflow.NOTE,
            generate_workflow.NOTE_PLACE,
            generate_workflow.thumbnail,
        ),
        WorkflowPage(
            "gvf_diffusion_trellis",
            generate_workflow.gvf_diffusion_trellis,
            generate_workflow.TRELLIS_PLACES,
            generate_workflow.TRELLIS_GROUPS,
            generate_workflow.TRELLIS_NOTE,
            generate_workflow.NOTE_PLACE,
            None,
        ),
        WorkflowPage(
            "diff4splat",
            image_workflow.diff4splat,
            image_workflow.PLACES,
            image_workflow.GROUPS,
            image_workflow.NOTE,
            image_workflow.NOTE_PLACE,
            image_workflow.thumbnail,
        ),
        WorkflowPage(
            "lift_video",
            lift_workflow.lift_video,
            lift_workflow.PLACES,
            lift_workflow.GROUPS,
            lift_workflow.NOTE,
            lift_workflow.NOTE_PLACE,
            lift_workflow.thumbnail,
        ),
        WorkflowPage(
            "wan_to_4d",
            wan_workflow.wan_to_4d,
            wan_workflow.PLACES,
            wan_workflow.GROUPS,
            wan_workflow.NOTE,
            wan_workflow.NOTE_PLACE,
            None,
        ),
        WorkflowPage(
            "edit_with_image_editor",
            editor_workflow.edit_with_image_editor,
            editor_workflow.PLACES,
            editor_workflow.GROUPS,
            editor_workflow.NOTE,
            editor_workflow.NOTE_PLACE,
            editor_workflow.thumbnail,
        ),
        WorkflowPage(
            "play_and_edit",
            play_workflow.play_and_edit,
            play_workflow.PLACES,
            play_workflow.GROUPS,
            play_workflow.NOTE,
            play_workflow.NOTE_PLACE,
            play_workflow.thumbnail,
        ),
    )
}  # fmt: skip
