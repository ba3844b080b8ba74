"""The player in its node, in a real ComfyUI: runs, compares, hands its camera back, keeps its state, says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import PLAYS, RUN, Page
from server import Server

from engine.deform import PerFrame
from engine.io.scene_file import save_scene
from engine.playback.player_content import PlayerFile
from engine.playback.player_file import read_player_file
from engine.scene import Cameras
from tests.pack_modules import pack_module
from tests.scenes import moving_scene
from tests.web import clips
from tests.web.pictures import centroid, coverage, drawn, engine_picture, over

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
framed_view = pack_module("load3d").framed_view
NODE = "GS4D_Preview4DScene"
BUILD = """([scene, compare]) => {
  app.graph.clear();
  const add = (type, x, y) => { const n = LiteGraph.createNode(type); app.graph.add(n); n.pos = [x, y]; return n; };
  const load = (file, y) => {
    const n = add('GS4D_Load4DScene', 0, y);
    n.widgets.find(w => w.name === 'scene_file').value = file;
    return n;
  };
  const player = add('GS4D_Preview4DScene', 420, 0);
  load(scene, 0).connect(0, player, player.inputs.findIndex(i => i.name === 'scene'));
  if (compare) load(compare, 420).connect(0, player, player.inputs.findIndex(i => i.name === 'compare'));
}"""
NO_WEBGL2 = """const real = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind === 'webgl2' ? null : real.call(this, kind, ...more);
};"""


@pytest.fixture(scope="module")
def folder(running: Server) -> Path:
    """Where two scenes lie that a node can load, and where the server puts its clips."""
    for name, seed in (("swing", 0), ("other", 1)):
        scene = moving_scene(150, seed=seed, moments=8, views=3)
        if seed:
            scene = scene.with_(deformation=clips.Everything())
        pages = PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times)
        save_scene(scene.with_(deformation=pages), running.base / "input" / f"player_{name}.safetensors")
    return running.base / "temp" / "gs4d"


@pytest.fixture()
def page(folder: Path, page: Page) -> Page:  # the files are there before the page asks for their names
    return page


def js(page: Page, expression: str) -> Any:
    """An expression about the player's `view` and its `node`."""
    return page.js(
        "() => { const view = document.querySelector('.gs4d')?.gs4d,"
        f" node = app.graph.nodes.find(n => n.type === '{NODE}'); return {expression} }}"
    )


def play(page: Page, compare: bool = False) -> None:
    page.js(BUILD, ["input/player_swing.safetensors", "input/player_other.safetensors" if compare else None])
    run(page)
    page.page.wait_for_function(PLAYS, timeout=60_000)
    js(
        page, "node.setSize([540, 670])"
    )  # wider than the cameras: a higher one shows more than the camera sees
    page.fit()


def run(page: Page) -> None:
    page.js(RUN)
    page.page.wait_for_function("() => window.outcome", timeout=120_000)
    assert page.js("() => window.outcome") == "success"


def clips_of(page: Page, folder: Path) -> list[PlayerFile]:
    return [read_player_file(folder / f["filename"]) for f in js(page, "node.properties.gs4d_preview.files")]


def seen_by_engine(page: Page, player_file: PlayerFile, seconds: float) -> Any:
    """The engine's picture through the camera that the player's button writes, as large as the player's own."""
    width, height = js(page, "[view.panel.canvas.width, view.panel.canvas.height]")
    framed = framed_view(js(page, "view.saved()")["camera"])
    pose, K = framed.world_to_camera, framed.intrinsics(width, height)
    return engine_picture(
        player_file.at(seconds), Cameras(pose[None], K[None], ((width, height),), ("seen",)), 0
    )


def test_it_plays_in_the_node_and_hands_its_camera_back(renderer: str, page: Page, folder: Path) -> None:
    assert page.js("() => Boolean(LiteGraph.vueNodesMode)") == (renderer == "vue")
    play(page)
    page.page.wait_for_function("() => document.querySelector('.gs4d').gs4d.player.frame >= 2")  # by itself
    (player_file,) = clips_of(page, folder)
    last = float(player_file.times[-1])
    js(page, "view.lookThrough('cam01')")
    pictures = [drawn(page.page, seconds=share * last) for share in (0, 0.5, 1)]
    assert min(coverage(picture) for picture in pictures) > 0.03
    places = [centroid(picture) for picture in pictures]
    assert np.abs(places[1] - places[0]).max() > 0.01 and np.abs(places[2] - places[1]).max() > 0.01

    # turned by hand, the view is handed to the node and drawn the same by the engine
    box = page.page.locator(".gs4d-port").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 3
    place = js(page, "[...node.pos]")
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 60, y + 20, steps=5)
    page.page.mouse.up()
    scale = js(page, "app.canvas.ds.scale")
    page.page.mouse.wheel(0, -120)
    assert js(page, "[...node.pos]") == place and js(page, "app.canvas.ds.scale") == scale
    assert js(page, "view.state.lens") is None
    page.page.get_by_role("button", name="Use this camera").click()
    written = json.loads(js(page, "node.widgets.find(w => w.name === 'camera').value"))
    assert written == js(page, "view.saved()")["camera"]
    saved = "app.extensionManager.workflow.activeWorkflow.changeTracker.activeState"
    assert json.dumps(written, separators=(",", ":")) in js(  # the graph knows that it has changed
        page, f"{saved}.nodes.find(n => n.type === '{NODE}').widgets_values"
    )
    assert set(written) == {"position", "target", "quaternion", "fov", "zoom", "cameraType"}
    here, there = drawn(page.page, seconds=0.4), seen_by_engine(page, player_file, 0.4)
    assert np.abs(over(here, 0) - over(there, 0)).mean() < 0.004
    assert abs(coverage(here) - coverage(there)) < 0.003 and coverage(there) > 0.03
    # paused, and run again with nothing new: it stays as it was left
    js(page, "view.player.pause()")
    run(page)  # with that camera in its widget
    page.page.wait_for_timeout(300)
    assert js(page, "view.player.playing") is False
    assert not page.complaints_about_the_pack()


def test_before_and_after_and_a_saved_graph(page: Page, folder: Path) -> None:
    play(page, compare=True)
    before, after = clips_of(page, folder)
    js(page, "view.lookThrough('cam02')")
    box = page.page.locator(".gs4d-divider").bounding_box()
    port = page.page.locator(".gs4d-port").bounding_box()
    assert box is not None and port is not None
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.page.mouse.down()
    page.page.mouse.move(port["x"] + 0.45 * port["width"], box["y"] + 30, steps=4)
    page.page.mouse.up()
    assert abs(js(page, "view.state.divider") - 0.45) < 0.02
    both = drawn(page.page, seconds=0.6)
    cut = round(js(page, "view.state.divider") * both.shape[1])
    left, right = (seen_by_engine(page, player_file, 0.6) for player_file in (before, after))
    assert np.abs(both[:, :cut] - left[:, :cut]).mean() < 0.004
    assert np.abs(both[:, cut:] - right[:, cut:]).mean() < 0.004
    assert np.abs(left - right).mean() > 0.01

    # the graph, saved and opened again, shows what was seen
    page.page.get_by_label("Background").select_option("grey")
    page.page.get_by_label("Speed").select_option("0.5")
    page.page.wait_for_timeout(400)
    kept = js(page, "view.saved()")
    page.js("() => { window.old = document.querySelector('.gs4d').gs4d; window.oldGl = old.stage.gl; }")
    page.js("() => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())))")
    page.page.wait_for_function("() => document.querySelector('.gs4d')?.gs4d !== window.old")
    page.page.wait_for_function(PLAYS, timeout=60_000)
    restored = js(page, "view.saved()")
    for name, numbers in kept.pop("camera").items():
        assert restored["camera"][name] == (pytest.approx(numbers) if name != "cameraType" else numbers)
    restored.pop("camera")
    assert restored == kept and kept["background"] == "grey" and kept["speed"] == 0.5
    again = drawn(page.page)
    if again.shape == both.shape:
        assert np.abs(again - both).mean() < 0.002
    page.page.wait_for_function("() => window.oldGl.isContextLost()")
    assert page.page.locator(".gs4d").count() == 1
    assert not page.complaints_about_the_pack()


def test_contexts_are_freed_when_nodes_go(page: Page, folder: Path) -> None:
    play(page)
    kept = js(page, "node.properties.gs4d_preview")
    page.js("() => { window.gls = []; }")
    warnings: list[str] = []
    page.page.on("console", lambda m: warnings.append(m.text) if "context" in m.text.lower() else None)
    for _ in range(20):  # browsers keep about 16
        page.js(
            """async (kept) => {
              const node = LiteGraph.createNode('GS4D_Preview4DScene');
              node.properties.gs4d_preview = structuredClone(kept);
              app.graph.add(node);
              node.onConfigure?.({});
              const view = node.widgets.find(w => w.name === 'player').element.firstChild.gs4d;
              while (!view.clips.length) await new Promise(done => setTimeout(done, 20));
              const gl = view.stage.gl;
              gls.push(gl);
              app.graph.remove(node);
              // a sort that is under way ends first
              while (!gl.isContextLost()) await new Promise(done => setTimeout(done, 20));
            }""",
            kept,
        )
    assert page.js("() => gls.length === 20 && gls.every(gl => gl.isContextLost())")
    assert coverage(drawn(page.page, seconds=0)) > 0.03  # the first one is still there
    assert not js(page, "view.stage.gl.isContextLost()")
    assert not [w for w in warnings if "Too many active" in w]
    # what is copied lies in no graph: it opens nothing; what is pasted shows the scene
    copied = """async () => {
      const real = HTMLCanvasElement.prototype.getContext;
      let opened = 0;
      HTMLCanvasElement.prototype.getContext = function (...all) {
        if (all[0] === 'webgl2') opened += 1;
        return real.apply(this, all);
      };
      const node = app.graph.nodes.find(n => n.type === 'GS4D_Preview4DScene');
      app.canvas.select(node);
      app.canvas.copyToClipboard([node]);
      await new Promise(done => setTimeout(done, 1000));
      const whenCopied = opened;
      app.canvas.pasteFromClipboard();
      const twin = app.graph.nodes.filter(n => n.type === 'GS4D_Preview4DScene').at(-1);
      const view = twin.widgets.find(w => w.name === 'player').element.firstChild.gs4d;
      while (!view.plays || !view.clips.length) await new Promise(done => setTimeout(done, 20));
      const apart = twin !== node && twin.properties.gs4d_preview !== node.properties.gs4d_preview;
      app.graph.remove(twin);
      return [whenCopied, opened, apart];
    }"""
    assert page.js(copied) == [0, 1, True]
    js(page, "app.graph.remove(node)")
    page.page.wait_for_function("() => !document.querySelector('.gs4d')")
    assert not page.complaints_about_the_pack()


def test_what_is_wrong_is_said_in_the_node(page: Page, folder: Path) -> None:
    play(page)
    (file,) = js(page, "node.properties.gs4d_preview.files")
    path, reload = (
        folder / file["filename"],
        "() => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())))",
    )
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) * 2 // 3])
        page.js("() => { window.good = app.graph.serialize(); }")
        for odd in ("'text'", "{files: null, view: 'x'}", "{files: [null, {}], movies: 3, notes: {}}"):
            page.js(
                "() => { const graph = structuredClone(good);"
                f" graph.nodes.find(n => n.type === '{NODE}').properties.gs4d_preview = {odd};"
                " return app.loadGraphData(graph); }"
            )
            page.page.get_by_text("Run the graph to play the scene here.").wait_for()
        page.js("() => app.loadGraphData(good)")
        page.page.get_by_text("cut short").wait_for()
        assert (
            page.page.get_by_text("cut short")
            .inner_text()
            .endswith("run the graph again, or export it again.")
        )
        path.unlink()
        page.js(reload)
        page.page.get_by_text(
            "The preview file is missing (ComfyUI clears its temp folder at start); run the graph again."
        ).wait_for()
    finally:
        path.write_bytes(whole)
    page.js(reload)
    page.page.wait_for_function(PLAYS, timeout=60_000)
    assert not [text for text in page.complaints_about_the_pack() if "404" not in text]


def test_without_webgl2_a_film_is_shown(page: Page, running: Server, folder: Path) -> None:
    page.page.add_init_script(NO_WEBGL2)
    page.open(running.url)
    page.js(BUILD, ["input/player_swing.safetensors", None])
    run(page)
    page.page.get_by_text("WebGL 2 is unavailable; showing a video instead.").wait_for()
    page.page.wait_for_function("() => document.querySelector('.gs4d video')?.readyState >= 1")
    assert page.js("() => document.querySelector('.gs4d video').duration") > 0.5
    assert not page.complaints_about_the_pack()
