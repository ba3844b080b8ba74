"""Writes workflows/NAME.json by building the graph in the real canvas: python tests/web/make_workflow.py [NAME …]

Nodes, positions, groups and notes come from workflow_pages.py; everything else is what the canvas itself saves.
build/NAME.png shows how it looks. With --thumbnail the graph is then run as it is, and workflows/NAME.jpg made of its
pictures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "tests" / "comfy"))
sys.path.insert(0, str(REPOSITORY / "tests" / "web"))
import browser  # noqa: E402
import server  # noqa: E402
import setup_comfy  # noqa: E402
from node_room import spread  # noqa: E402
from published_models import with_models  # noqa: E402
from workflow_pages import CLOSE_UP, PAGES, WorkflowPage  # noqa: E402

ARRANGE = """([places, groups, note, notePlace]) => {
  for (const node of app.graph.nodes) {
    const [x, y, w, h] = places[String(node.id)];
    node.pos = [x, y]; node.setSize([w, Math.max(h, node.computeSize()[1])]);
  }
  const text = LiteGraph.createNode('MarkdownNote');
  app.graph.add(text);
  text.title = 'How to use this workflow'; text.widgets[0].value = note;
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


def build(comfy: setup_comfy.ComfyTree, made: WorkflowPage, picture: Path | None = None) -> dict[str, Any]:
    """The workflow as the canvas serializes it."""
    executable = browser.chromium()
    assert executable, "Chromium is needed to build the workflow"
    with (
        tempfile.TemporaryDirectory() as base,
        server.serving(comfy.tree, comfy.python, Path(base)) as running,
        browser.browsing(executable, 1900, 1000) as page,
    ):
        page.open(running.url)
        graph = made.graph(running.get("/object_info"))
        page.js("([graph, name]) => app.loadApiJson(graph, name)", [graph, made.name])
        page.page.wait_for_timeout(1000)
        saved = json.loads(page.js(ARRANGE, [made.places, made.groups, made.note, made.note_place]))
        page.js("([g]) => app.loadGraphData(g)", [saved])
        page.page.wait_for_timeout(1000)
        if picture is not None:
            page.fit()
            page.picture(str(picture))
            if made.thumbnail is None:
                close_up(page, picture.with_suffix(".jpg"))
    return saved


def close_up(page: browser.Page, target: Path) -> None:
    """A part of the canvas in its natural size."""
    x, y, width, height = CLOSE_UP
    left, top = 80, 200  # clear of the buttons
    page.js(
        """([x, y]) => { const ds = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect();
          ds.scale = 1; ds.offset = [x - area.left, y - area.top]; app.canvas.setDirty(true, true); }""",
        [left - x, top - y],
    )
    page.page.wait_for_timeout(1500)
    clip = {"x": left, "y": top, "width": width, "height": height}
    page.page.screenshot(path=str(target), type="jpeg", quality=85, clip=clip)


def tidy(saved: dict[str, Any], number: int) -> dict[str, Any]:
    """Without what changes from save to save: the random id, and float noise in positions. Numbers of widgets stay."""
    for thing in (*saved["nodes"], *saved["groups"]):
        for key in ("pos", "size", "bounding"):
            if key in thing:
                thing[key] = [round(number, 2) for number in thing[key]]
    saved["id"] = f"0f4d65d0-0000-4000-8000-{number:012}"
    return saved


def run(comfy: setup_comfy.ComfyTree, made: WorkflowPage, base: Path) -> None:
    """Run the graph with its own numbers and say how long it took."""
    with server.serving(comfy.tree, comfy.python, base) as running:
        begun = time.monotonic()
        done = running.run(made.graph(running.get("/object_info")), timeout=1800)
        assert done.outcome == "execution_success", done.error
        print("\n".join(done.said[-6:]))
        print(f"{made.name}: {time.monotonic() - begun:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build workflow files in the real canvas.")
    parser.add_argument("names", nargs="*", default=list(PAGES), help="which ones; all where none is named")
    parser.add_argument(
        "--thumbnail", action="store_true", help="also run them (minutes) and make the thumbnails"
    )
    arguments = parser.parse_args()
    comfy, pictures = setup_comfy.build(), REPOSITORY / "build"
    pictures.mkdir(exist_ok=True)
    for name in arguments.names:
        made, target = PAGES[name], REPOSITORY / "workflows" / f"{name}.json"
        saved = with_models(
            spread(tidy(build(comfy, made, pictures / f"{name}.png"), list(PAGES).index(name) + 1))
        )
        target.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if arguments.thumbnail and made.thumbnail is None:
            shutil.copyfile(pictures / f"{name}.jpg", target.with_suffix(".jpg"))
        elif arguments.thumbnail and made.thumbnail is not None:
            with tempfile.TemporaryDirectory() as base:
                run(comfy, made, Path(base))
                made.thumbnail(Path(base)).save(target.with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main()
