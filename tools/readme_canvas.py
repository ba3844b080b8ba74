"""Makes docs/pictures/canvas.webp, the README's screenshot: python tools/readme_canvas.py [--no-run]

A scene is trained on the demo capture and edited with a prompt in a real ComfyUI, and the graph is photographed when it
has ended (about two minutes on two cores). --no-run only shows the arrangement, in build/canvas.webp. It needs the
environment of tests/comfy/setup_comfy.py and Chromium.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tools"))
import help_canvas  # noqa: E402
from help_canvas import browser, server, setup_comfy  # noqa: E402

PICTURE = REPOSITORY / "docs" / "pictures" / "canvas.webp"
MOST_BYTES = 200_000
WIDTH = 1800
# as in workflows/instruct_4dgs.json, but closer together and without the last refinement
GRAPH: help_canvas.Graph = (
    [
        ("GS4D_LoadMultiViewVideo", [0, 0], [330, 0], {}),
        ("GS4D_LoadGuidance", [0, 400], [330, 0], {}),
        ("PreviewImage", [0, 680], [720, 260], {}),
        ("GS4D_Train4DScene", [380, 0], [340, 0], {"iterations": 1200, "budget": 4000}),
        ("GS4D_EditViews", [770, 0], [360, 0], {"prompt": "turn it into a gold statue"}),
        ("GS4D_FitEdits", [1180, 0], [360, 0], {}),
        ("GS4D_Preview4DScene", [1590, 0], [640, 930], {}),
    ],
    [
        (0, 0, 3, "video"), (0, 0, 4, "video"), (1, 0, 4, "guidance"), (4, 1, 2, "images"), (3, 0, 4, "scene"),
        (3, 0, 5, "scene"), (4, 0, 5, "views"), (3, 0, 6, "scene"), (5, 0, 6, "compare"),
    ],
)  # fmt: skip


# from node positions: bounding boxes are only known after a node was drawn
FRAME = """([left, top, margin]) => {
  const ds = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect(), title = LiteGraph.NODE_TITLE_HEIGHT;
  ds.scale = 1; ds.offset = [left + margin - area.left, top + margin + title - area.top];
  app.canvas.setDirty(true, true);
  const right = Math.max(...app.graph.nodes.map(node => node.pos[0] + node.size[0]));
  const bottom = Math.max(...app.graph.nodes.map(node => node.pos[1] + node.size[1]));
  return {x: left, y: top, width: right + 2 * margin, height: bottom + title + 2 * margin};
}"""


# software GL draws its first frames slowly: wait until the player shows a sorted frame
SETTLED = """async () => {
  const view = document.querySelector('.gs4d').gs4d;
  while (!view.plays) await new Promise(done => setTimeout(done, 500));
  await view.picture();
}"""


def photograph(runs: bool) -> Image.Image:
    """The graph on the canvas of a fresh ComfyUI."""
    comfy, executable = setup_comfy.build(), browser.chromium()
    assert executable, "Chromium is needed"
    with (
        tempfile.TemporaryDirectory() as base,
        server.serving(comfy.tree, comfy.python, Path(base)) as running,
        browser.browsing(executable, 2500, 1500) as page,
    ):
        page.page.set_default_timeout(1_800_000)
        page.open(running.url)
        page.js(help_canvas.BUILD, [list(map(list, part)) for part in GRAPH])
        page.js(FRAME, [90, 130, 30])
        page.page.wait_for_timeout(3000)
        if runs:
            kind, why = page.js(help_canvas.RUN)
            assert kind == "execution_success", why
            page.js("() => app.canvas.deselectAll?.()")
        clip = page.js(FRAME, [90, 130, 30])
        page.page.wait_for_timeout(3000)
        if runs:
            page.js(SETTLED)
            page.page.wait_for_timeout(3000)
        return Image.open(io.BytesIO(page.page.screenshot(type="png", clip=clip)))


def save(picture: Image.Image, target: Path) -> None:
    """As a WebP of at most MOST_BYTES, as good as they allow."""
    picture = picture.convert("RGB").resize(
        (WIDTH, round(WIDTH * picture.height / picture.width)), Image.Resampling.LANCZOS
    )
    for quality in range(90, 30, -5):
        made = io.BytesIO()
        picture.save(made, "WEBP", quality=quality, method=6)
        if made.tell() <= MOST_BYTES:
            break
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(made.getvalue())
    print(
        f"{target.relative_to(REPOSITORY)}: {picture.width} × {picture.height}, {made.tell() / 1000:.0f} KB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's screenshot.")
    parser.add_argument("--no-run", action="store_true", help="only show the arrangement")
    arguments = parser.parse_args()
    target = REPOSITORY / "build" / PICTURE.name if arguments.no_run else PICTURE
    save(photograph(not arguments.no_run), target)


if __name__ == "__main__":
    main()
