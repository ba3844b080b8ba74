"""Makes the help pages' pictures of the canvas itself, in a real ComfyUI: python tools/help_canvas.py --scene FILE --edited FILE

web/docs/pictures/<node id>.jpg for nodes whose effect is best seen on the canvas. It needs the environment of
tests/comfy/setup_comfy.py and Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    str(REPOSITORY / "tests" / "comfy"),
    str(REPOSITORY / "tests" / "web"),
    str(REPOSITORY / "tools"),
]
import browser  # noqa: E402
import server  # noqa: E402
import setup_comfy  # noqa: E402
from help_pictures import save  # noqa: E402

BUILD = """([nodes, links]) => {
  app.graph.clear();
  const made = nodes.map(([type, pos, size, widgets]) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = pos; node.setSize([Math.max(size[0], 60), Math.max(size[1], node.computeSize()[1])]);
    for (const [name, value] of Object.entries(widgets))
      node.widgets.find(w => w.name === name).value = value;
    return node;
  });
  for (const [from, output, to, input] of links)
    made[from].connect(output, made[to], made[to].inputs.findIndex(slot => slot.name === input));
  app.graph.setDirtyCanvas(true, true);
}"""
FRAME = """([margin]) => {
  const ds = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect();
  // getBounding() is right only after the first drawing
  const title = LiteGraph.NODE_TITLE_HEIGHT;
  const boxes = app.graph.nodes.map(({pos, size}) => [pos[0], pos[1] - title, size[0], size[1] + title]);
  const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]));
  const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]));
  ds.scale = 1; ds.offset = [120 - left, 140 - top];
  app.canvas.setDirty(true, true);
  return {
    x: area.left + 120 - margin, y: area.top + 140 - margin,
    width: right - left + 2 * margin, height: bottom - top + 2 * margin,
  };
}"""
RUN = """async () => {
  const ended = new Promise(done => {
    for (const kind of ['execution_success', 'execution_error'])
      app.api.addEventListener(kind, event => done([kind, event.detail?.exception_message ?? '']), {once: true});
  });
  await app.queuePrompt(0, 1);
  return await ended;
}"""

Graph = tuple[list[tuple[str, list[int], list[int], dict[str, Any]]], list[tuple[int, int, int, str]]]

SEGMENTATION = {"segmenter": "sam2.1-hiera-tiny", "detector": "grounding-dino-tiny"}

TRELLIS = {"trellis": "TRELLIS-image-large", "image_encoder": "dinov2-with-registers-large"}
TRELLIS |= {"decoder": "gvfdiffusion/ema_static_vae_0.9999_200000"}

VARIATION = {"model": "gvfdiffusion", "image_encoder": "dinov2-with-registers-large"}

IMAGE_TO_4D = {"model": "bundled (small)"}

PAGES: dict[str, Graph] = {
    "GS4D_LoadImageTo4D": (
        [
            ("GS4D_LoadImageTo4D", [0, 0], [330, 0], IMAGE_TO_4D),
            ("GS4D_GenerateFromImage", [390, 0], [330, 0], {}),
        ],
        [(0, 0, 1, "models")],
    ),
    "GS4D_GenerateFromImage": (
        [
            ("GS4D_LoadImageTo4D", [0, 0], [310, 0], IMAGE_TO_4D),
            ("LoadImage", [0, 200], [310, 0], {"image": "object.png"}),
            ("GS4D_CameraPath", [360, 0], [310, 0], {"kind": "arc left", "frames": 9, "width": 64, "height": 64}),
            ("GS4D_GenerateFromImage", [720, 0], [330, 0], {}),
        ],
        [(0, 0, 3, "models"), (1, 0, 3, "image"), (2, 0, 3, "path")],
    ),
    "GS4D_GuidanceFromModel": (
        [
            ("CheckpointLoaderSimple", [0, 0], [300, 0], {}),
            ("LoraLoader", [340, 0], [270, 0], {}),
            ("GS4D_GuidanceFromModel", [650, 0], [280, 0], {}),
        ],
        [(0, 0, 1, "model"), (0, 1, 1, "clip"), (1, 0, 2, "model"), (1, 1, 2, "clip"), (0, 2, 2, "vae")],
    ),
    "GS4D_LoadSegmentation": (
        [
            ("GS4D_LoadSegmentation", [0, 0], [340, 0], SEGMENTATION),
            ("GS4D_SegmentByText", [390, 0], [310, 0], {"prompt": "left eye. right eye. mouth"}),
        ],
        [(0, 0, 1, "models")],
    ),
    "GS4D_SegmentByText": (
        [
            ("GS4D_LoadSegmentation", [0, 0], [340, 0], SEGMENTATION),
            ("GS4D_SceneViews", [0, 190], [340, 0], {}),
            ("GS4D_SegmentByText", [390, 0], [310, 0], {"prompt": "left eye. right eye. mouth", "grow": 4}),
            ("GS4D_EditViews", [750, 0], [330, 0], {"prompt": "turn it into a gold statue"}),
        ],
        [(0, 0, 2, "models"), (1, 0, 2, "views"), (2, 0, 3, "keep")],
    ),
    "GS4D_LoadTrellis": (
        [
            ("GS4D_LoadTrellis", [0, 0], [390, 0], TRELLIS),
            ("GS4D_CanonicalFromImage", [440, 0], [310, 0], {}),
        ],
        [(0, 0, 1, "models")],
    ),
    "GS4D_CanonicalFromImage": (
        [
            ("GS4D_LoadTrellis", [0, 0], [390, 0], TRELLIS),
            ("LoadImage", [0, 200], [230, 0], {"image": "object.png"}),
            ("InvertMask", [260, 250], [130, 0], {}),
            ("GS4D_CanonicalFromImage", [440, 0], [310, 0], {}),
            ("GS4D_SceneToSplat", [800, 0], [290, 0], {}),
        ],
        [(0, 0, 3, "models"), (1, 0, 3, "image"), (1, 1, 2, "mask"), (2, 0, 3, "mask"), (3, 0, 4, "scene")],
    ),
    "GS4D_AlignSplat": (
        [
            ("GS4D_Load4DScene", [0, 0], [290, 0], {"scene_file": "output/gs4d/walker.safetensors"}),
            ("LoadImage", [0, 130], [290, 0], {"image": "frame.png"}),
            ("InvertMask", [0, 280], [290, 0], {}),
            ("GS4D_AlignSplat", [340, 0], [330, 0], {}),
            ("GS4D_SceneToSplat", [720, 0], [260, 0], {}),
            ("PreviewImage", [720, 130], [260, 60], {}),
        ],
        [(0, 0, 3, "splat"), (1, 0, 3, "images"), (1, 1, 2, "mask"), (2, 0, 3, "mask"), (3, 0, 4, "scene"), (3, 1, 5, "images")],
    ),
    "GS4D_PrepareVideo": (
        [
            ("LoadVideo", [0, 0], [250, 0], {"file": "object.mp4"}),
            ("GetVideoComponents", [280, 0], [230, 0], {}),
            ("GS4D_PrepareVideo", [540, 0], [310, 0], {}),
            ("GS4D_LoadVariation", [540, 420], [310, 0], VARIATION),
            ("GS4D_VariationDiffusion", [900, 0], [310, 0], {}),
        ],
        [(0, 0, 1, "video"), (1, 0, 2, "images"), (1, 2, 2, "frames_per_second"), (3, 0, 4, "models"),
         (2, 0, 4, "images"), (2, 1, 4, "mask"), (2, 2, 4, "fps")],
    ),
    "GS4D_CaptureFromVideos": (
        [
            ("GS4D_CameraPath", [0, 0], [270, 0], {}),
            ("GS4D_Render4DScene", [0, 420], [270, 0], {}),
            ("GS4D_CaptureFromVideos", [330, 0], [310, 0], {"order": "one moving camera"}),
        ],
        [(0, 0, 1, "path"), (1, 0, 2, "videos"), (0, 0, 2, "path")],
    ),
    "GS4D_LoadVideoClip": (
        [
            ("GS4D_LoadVideoClip", [0, 0], [310, 0], {}),
            ("GS4D_PrepareVideo", [360, 0], [310, 0], {}),
        ],
        [(0, 0, 1, "images"), (0, 1, 1, "frames_per_second")],
    ),
    "GS4D_LoadVariation": (
        [
            ("GS4D_LoadVariation", [0, 0], [390, 0], VARIATION),
            ("GS4D_VariationDiffusion", [440, 0], [330, 0], {}),
        ],
        [(0, 0, 1, "models")],
    ),
    "GS4D_VariationDiffusion": (
        [
            ("GS4D_LoadVariation", [0, 0], [330, 0], VARIATION),
            ("GS4D_AlignSplat", [0, 180], [330, 0], {}),
            ("GS4D_VariationDiffusion", [390, 0], [330, 0], {}),
            ("GS4D_Preview4DScene", [780, 0], [300, 420], {"makes_movie": False}),
        ],
        [(0, 0, 2, "models"), (1, 0, 2, "splat"), (2, 0, 3, "scene")],
    ),
    "GS4D_EvaluateGeneration": (
        [
            ("GS4D_VariationDiffusion", [0, 0], [330, 0], {}),
            ("GS4D_Load4DScene", [0, 400], [330, 0], {"scene_file": "output/gs4d/walker.safetensors"}),
            ("GS4D_EvaluateGeneration", [390, 0], [330, 0], {"video_network": "gs4d/i3d_torchscript.pt"}),
            ("PreviewAny", [780, 0], [260, 180], {}),
        ],
        [(0, 0, 2, "scene"), (1, 0, 2, "truth"), (2, 1, 3, "source")],
    ),
    "GS4D_EncodeMeshAnimation": (
        [
            ("GS4D_LoadVariation", [0, 0], [330, 0], VARIATION),
            ("GS4D_Import4DScene", [0, 180], [330, 0], {"source": "demo: clay_dancer.spz"}),
            ("GS4D_EncodeMeshAnimation", [390, 0], [330, 0], {}),
            ("GS4D_Preview4DScene", [780, 0], [300, 420], {"makes_movie": False}),
        ],
        [(0, 0, 2, "models"), (1, 0, 2, "splat"), (2, 0, 3, "scene")],
    ),
    "GS4D_Save4DScene": (
        [
            ("GS4D_Load4DScene", [0, 0], [330, 0], {}),
            ("GS4D_Save4DScene", [380, 0], [330, 0], {"filename_prefix": "gs4d/gold"}),
        ],
        [(0, 0, 1, "scene")],
    ),
    "GS4D_Preview4DScene": (
        [
            ("GS4D_Load4DScene", [0, 0], [280, 0], {"scene_file": "output/gs4d/walker.safetensors"}),
            ("GS4D_Load4DScene", [0, 240], [280, 0], {"scene_file": "output/gs4d/gold.safetensors"}),
            ("GS4D_Preview4DScene", [320, 0], [520, 700], {"makes_movie": False}),
        ],
        [(0, 0, 2, "scene"), (1, 0, 2, "compare")],
    ),
}  # fmt: skip


def picture_of(page: browser.Page, graph: Graph, runs: bool) -> Image.Image:
    """The graph on the canvas, as it looks (and after it ran)."""
    page.js(BUILD, [list(map(list, part)) for part in graph])
    page.page.wait_for_timeout(800)
    if runs:
        kind, why = page.js(RUN)
        assert kind == "execution_success", why
        page.js(FRAME, [26])
        page.page.wait_for_timeout(12_000)  # software GL sorts and draws its first frames slowly
    clip = page.js(FRAME, [26])
    page.page.wait_for_timeout(3000)
    return Image.open(io.BytesIO(page.page.screenshot(type="png", clip=clip)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=Path, required=True, help="a trained scene of the demo clip")
    parser.add_argument("--edited", type=Path, required=True, help="the same scene, edited")
    parser.add_argument("nodes", nargs="*", default=list(PAGES))
    arguments = parser.parse_args()
    comfy, executable = setup_comfy.build(), browser.chromium()
    assert executable, "Chromium is needed"
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        scenes = base / "output" / "gs4d"
        scenes.mkdir(parents=True)
        shutil.copyfile(arguments.scene, scenes / "walker.safetensors")
        shutil.copyfile(arguments.edited, scenes / "gold.safetensors")
        with (
            server.serving(comfy.tree, comfy.python, base) as running,
            browser.browsing(executable, 1500, 1250) as page,
        ):
            page.open(running.url)
            for node in arguments.nodes:
                path = save(picture_of(page, PAGES[node], "Preview" in node), node)
                print(f"{path.relative_to(REPOSITORY)}  {path.stat().st_size / 1000:.0f} KB", flush=True)


if __name__ == "__main__":
    main()
