"""The pack in the newest frontend, in both renderers: what nodes show once, keep after the job, and keep when undone.

The other tests of this folder run on the frontend of the ComfyUI tree, the oldest.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PLAYS, RUN, Page, browsing
from server import Server

from engine.deform import PerFrame
from engine.io.scene_file import save_scene
from tests.scenes import moving_scene

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
BUILD = """(seed) => {
  app.graph.clear();
  const add = (type, x, widgets) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [x, 0];
    for (const [name, value] of Object.entries(widgets)) node.widgets.find(w => w.name === name).value = value;
    return node;
  };
  const wire = (from, to, name) => from.connect(0, to, to.inputs.findIndex(i => i.name === name));
  const load = add('GS4D_LoadMultiViewVideo', 0, {scale: 0.25, frame_step: 15, cache_megabytes: 300 + seed});
  const check = add('GS4D_PreflightCheck', 320, {moments: 1});
  const train = add('GS4D_Train4DScene', 640, {iterations: 12, budget: 300, preview_every: 4, seed});
  const play = add('GS4D_Preview4DScene', 1000, {});
  wire(load, check, 'video');
  wire(load, train, 'video');
  wire(train, play, 'scene');
}"""
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
SEEDS = itertools.count(40)
# drawn without a GPU, a playing scene leaves little for the page
PAUSE = "() => document.querySelector('.gs4d').gs4d.player.pause()"
# how many images each node shows, how high the player is, and the notes
SHOWN = """() => {
  const pictures = {};
  for (const node of app.graph.nodes) {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
    pictures[node.type] = LiteGraph.vueNodesMode && drawn
      ? [...drawn.querySelectorAll('img')].filter(i => i.clientHeight > 40).length : (node.imgs ?? []).length;
  }
  const player = document.querySelector('.gs4d');
  return {pictures, height: player?.clientHeight ?? 0,
          notes: [...document.querySelectorAll('.gs4d-node-notes, .gs4d-notes')].map(e => e.textContent).sort()};
}"""
# two states of the graph, and back to the first: a node is moved
UNDO = """async () => {
  const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;
  const note = () => (tracker.captureCanvasState ?? tracker.checkState).call(tracker);
  note();
  window.before = document.querySelector('.gs4d').gs4d;
  app.graph.nodes[0].pos = [-60, 20];
  note();
  await tracker.undo();
}"""


# one page for all tests of a renderer: opening one takes as long as most of them
@pytest.fixture(scope="module", params=["canvas", "vue"])
def page(request: pytest.FixtureRequest, newest: Server, chromium: str) -> Iterator[Page]:
    assert newest.post("/settings/Comfy.VueNodes.Enabled", request.param == "vue")[0] == 200
    with browsing(chromium, 1900, 1000) as opened:
        opened.open(newest.url)
        assert opened.js("() => Boolean(LiteGraph.vueNodesMode)") == (request.param == "vue")
        yield opened


def test_a_run_is_shown_once_and_is_still_there_after_undo(page: Page) -> None:
    # a graph of its own for each renderer: what comes from the server's cache has no previews
    page.js(BUILD, next(SEEDS))
    page.fit()
    # the frontend lays the player out in a frame of its own
    page.page.wait_for_function(f"() => ({SHOWN})().height >= 360", timeout=30_000)
    empty = page.js(SHOWN)
    page.js(RUN)
    page.page.wait_for_function("() => window.outcome", timeout=180_000)
    assert page.js("() => window.outcome") == "success"
    page.page.wait_for_function(PLAYS, timeout=60_000)
    page.js(PAUSE)
    page.page.wait_for_timeout(2000)  # frontends from 1.54 on remove progress when the job has ended
    page.fit()
    page.page.wait_for_function(f"() => ({SHOWN})().pictures.GS4D_Train4DScene > 0", timeout=60_000)
    shown: dict[str, Any] = page.js(SHOWN)
    working = ("GS4D_PreflightCheck", "GS4D_Train4DScene")
    assert [shown["pictures"][node] for node in working] == [1, 1]
    assert len(shown["notes"]) == 4 and all(shown["notes"])
    assert shown["height"] >= empty["height"], "the player keeps its room"

    page.js(UNDO)
    page.page.wait_for_function(
        "() => document.querySelectorAll('.gs4d').length === 1 && document.querySelector('.gs4d').gs4d !== window.before"
    )
    page.page.wait_for_function(PLAYS, timeout=60_000)
    page.js(PAUSE)
    page.page.wait_for_timeout(500)
    again = page.js(SHOWN)
    assert again["height"] >= empty["height"] and again["notes"] == shown["notes"]
    assert [again["pictures"][node] for node in working] == [1, 1]
    # the old view lets go of the GPU once its last work is done
    page.page.wait_for_function("() => document.querySelector('.gs4d').isConnected && !window.before.stage")
    assert not page.complaints_about_the_pack()


def test_sockets_have_colors_and_a_wire_offers_the_player(page: Page) -> None:
    colors = page.js(
        """() => ['GS4D_SCENE', 'GS4D_VIDEO', 'GS4D_VIEWS', 'GS4D_SELECTION', 'GS4D_LATENT_FIELD'].map(type =>
             [app.canvas.default_connection_color_byType[type], app.canvas.constructor.link_type_colors[type],
              getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim()])"""
    )
    assert all(len(set(three)) == 1 and three[0].startswith("#") for three in colors)
    assert len({three[0] for three in colors}) == len(colors)
    offered = page.js("() => LiteGraph.slot_types_default_out.GS4D_SCENE")
    assert next(name for name in offered if name != "Reroute") == "GS4D_Preview4DScene"


DROP = """([type, files]) => {
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  const carried = new DataTransfer();
  for (const [name, data] of files)
    carried.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
  return node.onDragOver({dataTransfer: carried}) && node.onDragDrop({dataTransfer: carried});
}"""
SAVE = """() => {
  const [load] = app.graph.nodes, save = LiteGraph.createNode('GS4D_Save4DScene');
  app.graph.add(save);
  save.pos = [400, 0];
  load.connect(0, save, 0);
}"""
CHOSEN = "app.graph.nodes[0].widgets.find(w => ['scene_file', 'source', 'clip'].includes(w.name)).value"
LINK = """async () => {
  const link = document.querySelector('.gs4d-node-notes a[download]');
  return [link.download, (await (await fetch(link.href)).arrayBuffer()).byteLength];
}"""


def test_files_are_dropped_on_a_node_and_downloaded_from_one(
    page: Page, newest: Server, tmp_path: Path
) -> None:
    scene = moving_scene(60, moments=2, views=2)
    pages = PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times)
    save_scene(scene.with_(deformation=pages), tmp_path / "dropped.safetensors")
    data = (tmp_path / "dropped.safetensors").read_bytes()
    name = f"dropped {next(SEEDS)}.safetensors"
    assert page.js(DROP, ["GS4D_Load4DScene", [[name, base64.b64encode(data).decode()]]])
    page.page.wait_for_function(f"name => {CHOSEN} === name", arg=f"input/{name}", timeout=30_000)
    assert (newest.base / "input" / name).read_bytes() == data
    page.js(SAVE)
    page.fit()
    page.js(RUN)
    page.page.wait_for_function("() => window.outcome", timeout=60_000)
    assert page.js("() => window.outcome") == "success"
    page.page.wait_for_selector(".gs4d-node-notes a[download]", state="attached", timeout=30_000)
    saved, size = page.js(LINK)
    assert saved.endswith(".safetensors")
    assert (newest.base / "output" / "gs4d" / saved).stat().st_size == size
    assert not page.complaints_about_the_pack()


OVERLAPS = """async graph => {
  await app.loadGraphData(graph);
  await new Promise(done => setTimeout(done, 500));
  const boxes = app.graph.nodes.map(node => {
    const drawn = LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`);
    const scale = app.canvas.ds.scale, [x, y] = node.pos, title = LiteGraph.NODE_TITLE_HEIGHT;
    const high = drawn ? drawn.getBoundingClientRect().height / scale : node.size[1] + title;
    return [`${node.type} ${node.id}`, x, y - title, node.size[0], high];
  });
  const both = (a, b, i) => Math.min(a[i] + a[i + 2], b[i] + b[i + 2]) - Math.max(a[i], b[i]) > 1;
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => both(a, b, 1) && both(a, b, 2)).map(b => [a[0], b[0]]));
}"""


def test_no_node_of_a_workflow_lies_on_another(page: Page) -> None:
    found = {
        file.stem: overlaps
        for file in sorted(WORKFLOWS.glob("*.json"))
        if (overlaps := page.js(OVERLAPS, json.loads(file.read_text(encoding="utf-8"))))
    }
    assert not found


def test_files_that_belong_together_are_one_folder_and_others_are_left_alone(
    page: Page, newest: Server
) -> None:
    mark, data = next(SEEDS), base64.b64encode(b"splat").decode()
    files = [[f"shot{mark}.ply", data], [f"second{mark}.ply", data], [f"graph{mark}.json", data]]
    assert page.js(DROP, ["GS4D_Import4DScene", files])
    page.page.wait_for_function(f"start => {CHOSEN}.startsWith(start)", arg=f"input/shot{mark}_")
    folder = newest.base / page.js(f"() => {CHOSEN}")
    assert sorted(path.name for path in folder.iterdir()) == [f"second{mark}.ply", f"shot{mark}.ply"]
    assert not page.js(DROP, ["GS4D_Import4DScene", files[2:]]), "a workflow is the frontend's to open"


def test_an_upload_wins_over_a_folder_that_was_typed_before(page: Page) -> None:
    mark = next(SEEDS)
    typed = "app.graph.nodes[0].widgets.find(w => w.name === 'folder')"
    dropped = DROP.replace("const carried", f"{typed}.value = 'input/old'; const carried")
    assert page.js(dropped, ["GS4D_LoadMultiViewVideo", [[f"cam{mark}.mp4", ""]]])
    page.page.wait_for_function(f"start => {CHOSEN}.startsWith(start)", arg=f"input/cam{mark}_")
    assert "/" not in page.js(f"() => {CHOSEN}.slice(6)"), "the folder of the video"
    assert page.js(f"() => {typed}.value") == ""


ADD = (
    DROP.replace("app.graph.clear();", "")
    .replace("const node = LiteGraph.createNode(type);", "const [node] = app.graph.nodes;")
    .replace("app.graph.add(node);", "")
)
NOTE = "(document.querySelector('.gs4d-node-notes')?.textContent ?? '')"


def test_videos_that_are_dropped_one_by_one_are_one_capture(page: Page, newest: Server) -> None:
    mark, data, loader = next(SEEDS), base64.b64encode(b"video").decode(), "GS4D_LoadMultiViewVideo"

    def add(*names: str, said: str) -> tuple[str, list[str]]:
        """What the node then reads, and the files in it."""
        assert page.js(ADD, [loader, [[name, data] for name in names]])
        page.page.wait_for_function(f"said => {NOTE}.includes(said)", arg=said, timeout=30_000)
        chosen = page.js(f"() => {CHOSEN}")
        return chosen, sorted(path.name for path in (newest.base / chosen).glob("*"))

    assert page.js(DROP, [loader, [[f"s{mark}_cam00.mp4", data]]])
    page.page.wait_for_function(f"start => {CHOSEN}.startsWith(start)", arg=f"input/s{mark}_cam00_")
    first = page.js(f"() => {CHOSEN}")
    names = [f"s{mark}_cam{i:02}.mp4" for i in range(4)]
    joined = [
        add(names[1], said=f"Added {names[1]} to {first} (2 files)"),
        add("cameras.json", said=f"Added cameras.json to {first}"),
        # two drops at once wait for each other
        add(names[3], names[2], said="(5 files)"),
    ]
    assert [chosen for chosen, _ in joined] == [first] * 3
    assert joined[-1][1] == ["cameras.json", *names]
    # saved and opened again, the node goes on with its folder
    page.js("async () => app.loadGraphData(app.graph.serialize())")
    assert add(f"s{mark}_cam11.mp4", said="(6 files)")[0] == first
    second, inside = add(names[0], said=f"{names[0]} is in {first} already")
    assert second != first and inside == [names[0]], "the same name again is another capture"
    third, inside = add(f"other{mark}.mp4", said=f"other{mark}.mp4 is named unlike {names[0]}")
    assert third != second and inside == [f"other{mark}.mp4"]
    assert add(f"s{mark}.zip", said=f"Uploaded input/s{mark}.zip")[0] == f"input/s{mark}.zip"
    fourth, inside = add(f"other{mark + 1}.mp4", said="New capture")
    assert fourth not in (first, second, third) and len(inside) == 1, "a zip is not continued"
    assert len(list((newest.base / first).glob("*"))) == 6
    assert not page.complaints_about_the_pack()
