"""Writes workflows/train_and_render.json by building the graph in the real canvas: python tests/web/make_workflow.py

Positions, groups and notes are set here; everything else is what the canvas itself saves. build/train_and_render.png
shows how it looks. With --thumbnail the graph is then run as it is, and workflows/train_and_render.jpg made of its
pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "comfy"))
sys.path.insert(0, str(REPOSITORY / "tests" / "web"))
import browser  # noqa: E402
import graphs  # noqa: E402
import server  # noqa: E402
import setup_comfy  # noqa: E402

TARGET = REPOSITORY / "workflows" / "train_and_render.json"

# id: (x, y, width, height)
PLACES = {
    "1": (0, 0, 330, 320), "2": (0, 440, 330, 420), "3": (370, 90, 300, 770),
    "4": (720, 0, 360, 640), "5": (720, 740, 360, 120),
    "6": (1130, 0, 310, 320), "7": (1480, 0, 310, 320), "8": (1840, 0, 420, 560),
    "9": (1130, 680, 330, 520), "10": (1490, 680, 770, 520),
}  # fmt: skip
GROUPS = [
    ("1 · Open the capture and check it", (-20, -80, 710, 960), "#3f789e"),
    ("2 · Train", (700, -80, 400, 960), "#8a6f3c"),
    ("3 · Move a camera through it", (1110, -80, 1170, 660), "#3c7a4f"),
    ("4 · Measure on views that were never trained on", (1110, 600, 1170, 620), "#7a3c6f"),
]
NOTE = """## Multi-view video in, moving 3D scene out

Press **Run**. The demo clip (a walking figure, 12 cameras) is trained for up to three minutes, then a camera circles it
while it walks; the video is in `output/video`.

**Your own capture:** put its folder into ComfyUI's `input` folder, press **R** to refresh, choose it under *clip*.

**Sharper:** set *stop after seconds* to 0 and raise *iterations* and *gaussians*.
**Slow motion:** set *speed* to 0.25; **frozen time:** 0.

Cancel whenever you like: what was trained is kept, and the next run goes on from there."""
NOTE_PLACE = (-350, 0, 310, 440)


def api_graph(info: dict[str, Any]) -> dict[str, Any]:
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
    }


ARRANGE = """([places, groups, note, notePlace]) => {
  for (const node of app.graph.nodes) {
    const [x, y, w, h] = places[String(node.id)];
    node.pos = [x, y]; node.setSize([w, Math.max(h, node.computeSize()[1])]);
  }
  const text = LiteGraph.createNode('MarkdownNote');
  app.graph.add(text);
  text.title = 'How to use this'; text.widgets[0].value = note;
  text.pos = [notePlace[0], notePlace[1]]; text.setSize([notePlace[2], notePlace[3]]);
  text.color = '#432'; text.bgcolor = '#653';
  for (const [title, bounding, color] of groups) {
    const group = new LiteGraph.LGraphGroup(title);
    group.configure({title, bounding, color, font_size: 24, flags: {}});
    app.graph.add(group);
  }
  const saved = app.graph.serialize();
  saved.extra = {};
  return JSON.stringify(saved);
}"""


def build(comfy: setup_comfy.ComfyTree, picture: Path | None = None) -> dict[str, Any]:
    """The workflow as the canvas serializes it."""
    executable = browser.chromium()
    assert executable, "Chromium is needed to build the workflow"
    with (
        tempfile.TemporaryDirectory() as base,
        server.serving(comfy.tree, comfy.python, Path(base)) as running,
        browser.browsing(executable, 1900, 1000) as page,
    ):
        page.open(running.url)
        graph = api_graph(running.get("/object_info"))
        page.js("([graph]) => app.loadApiJson(graph, 'train_and_render')", [graph])
        page.page.wait_for_timeout(1000)
        saved = json.loads(page.js(ARRANGE, [PLACES, GROUPS, NOTE, NOTE_PLACE]))
        page.js("([g]) => app.loadGraphData(g)", [saved])
        page.page.wait_for_timeout(1000)
        if picture is not None:
            page.fit()
            page.picture(str(picture))
    return saved


def tidy(saved: dict[str, Any]) -> dict[str, Any]:
    """Without what changes from save to save: the random id, and float noise in positions."""
    saved = json.loads(json.dumps(saved), parse_float=lambda text: round(float(text), 2))
    saved["id"] = "0f4d65d0-0000-4000-8000-000000000001"
    return saved


def thumbnail(comfy: setup_comfy.ComfyTree, target: Path) -> None:
    """Run the graph with its own numbers and lay four frames of its video out in a square."""
    import av
    from PIL import Image

    with (
        tempfile.TemporaryDirectory() as base,
        server.serving(comfy.tree, comfy.python, Path(base)) as running,
    ):
        run = running.run(api_graph(running.get("/object_info")), timeout=900)
        assert run.outcome == "execution_success", run.error
        print("\n".join(run.texts[-4:]))
        with av.open(str(next((Path(base) / "output" / "video").glob("*.mp4")))) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    side = 256
    sheet = Image.new("RGB", (2 * side, 2 * side), "white")
    for i in range(4):
        frame = frames[i * len(frames) // 4].resize((side, side))
        sheet.paste(frame, (i % 2 * side, i // 2 * side))
    sheet.save(target, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the workflow file in the real canvas.")
    parser.add_argument(
        "--thumbnail", action="store_true", help="also run it (minutes) and make the thumbnail"
    )
    arguments = parser.parse_args()
    comfy, picture = setup_comfy.build(), REPOSITORY / "build" / "train_and_render.png"
    picture.parent.mkdir(exist_ok=True)
    saved = tidy(build(comfy, picture))
    TARGET.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.thumbnail:
        thumbnail(comfy, TARGET.with_suffix(".jpg"))


if __name__ == "__main__":
    main()
