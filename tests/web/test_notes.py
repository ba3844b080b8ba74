"""What nodes tell, in the real canvas: as text, in a widget of its own that leaves the graph as it is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import RUN, Page
from server import Server

from engine.deform import PerFrame
from engine.io.scene_file import save_scene
from tests import markup
from tests.scenes import moving_scene

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
BUILD = """(nodes) => {
  app.graph.clear();
  const made = {};
  nodes.forEach(([name, type, widgets, from], i) => {
    const node = made[name] = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [380 * i, 0];
    for (const [key, value] of Object.entries(widgets)) node.widgets.find(w => w.name === key).value = value;
    if (from) made[from].connect(0, node, 0);
  });
}"""
SHOWN = """() => Object.fromEntries(app.graph.nodes.map(n =>
  [n.type, (n.widgets ?? []).filter(w => w.name === 'gs4d_notes').map(w => w.element.textContent)]))"""
GRAPH = """async () => {
  const prompt = (await app.graphToPrompt()).output;
  return [app.graph.serialize().nodes.map(n => [n.id, n.widgets_values ?? [], n.properties]), prompt];
}"""
TAB = "id => app.extensionManager.command.execute(id)"
COUNT = itertools.count(300)


def capture_and_check(**widgets: Any) -> list[list[Any]]:
    """What BUILD builds; unlike any graph before, so that the server's cache answers nothing of it."""
    widgets["cache_megabytes"] = next(COUNT)
    return [
        ["load", "GS4D_LoadMultiViewVideo", widgets, None],
        ["check", "GS4D_PreflightCheck", {"moments": 1}, "load"],
    ]


def saved_scene(path: Path, names: tuple[str, str] = ("cam00", "cam01")) -> None:
    scene = moving_scene(60, moments=1, views=2)
    pages = PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times)
    save_scene(scene.with_(deformation=pages, rig=replace(scene.rig, names=names)), path)


def run(page: Page) -> None:
    page.js(RUN)
    page.page.wait_for_function("() => window.outcome", timeout=120_000)
    assert page.js("() => window.outcome") == "success"
    page.page.wait_for_timeout(1000)  # frontends from 1.54 on remove progress when the job has ended


def notes(page: Page) -> dict[str, list[str]]:
    """The text of each notes widget, by the type of its node."""
    return page.js(SHOWN)


def visible(page: Page) -> list[str]:
    """The text of the notes that are in the page, as large as somebody could read."""
    page.fit()
    return page.js(
        """() => [...document.querySelectorAll('.gs4d-node-notes')]
             .filter(e => { const b = e.getBoundingClientRect(); return b.width > 60 && b.height > 8; })
             .map(e => e.innerText)"""
    )


def test_markup_from_files_and_widgets_is_shown_as_text(running: Server, renderer: str, page: Page) -> None:
    folder = running.base / "input"
    if not (folder / "marked").is_dir():
        markup.capture(folder / "marked")
        saved_scene(folder / "still.safetensors")
    page.open(running.url)  # again: the files are there now
    page.js(
        BUILD,
        [
            *capture_and_check(clip="input/marked"),
            ["scene", "GS4D_Load4DScene", {"scene_file": "input/still.safetensors"}, None],
            ["export", "GS4D_Export4DScene", {"kind": "ply", "filename_prefix": f"gs4d/{markup.IMAGE}"}, "scene"],
        ],
    )  # fmt: skip
    run(page)
    assert page.js(markup.RAN) is None, "what a file says was run as script"
    told = notes(page)
    assert f"{markup.IMAGE} has 4 frames" in told["GS4D_LoadMultiViewVideo"][0]
    assert f"output/gs4d/{markup.IMAGE}_0000" in told["GS4D_Export4DScene"][0]
    assert len([text for text in visible(page) if markup.IMAGE in text]) == 3
    assert page.page.locator("img[src='x']").count() == 0
    # what is wrong is said as text too
    page.js(
        "path => { app.graph.nodes.find(n => n.type === 'GS4D_LoadMultiViewVideo')"
        ".widgets.find(w => w.name === 'folder').value = path; return app.queuePrompt(0, 1); }",
        f"input/{markup.IMAGE} gone",
    )
    page.page.wait_for_timeout(1500)
    assert page.js(markup.RAN) is None


def test_notes_stay_where_they_are_and_change_nothing_in_the_graph(renderer: str, page: Page) -> None:
    page.js(BUILD, capture_and_check(scale=0.5, frame_step=10))
    before = page.js(GRAPH)
    assert notes(page) == {"GS4D_LoadMultiViewVideo": [], "GS4D_PreflightCheck": []}
    run(page)
    first = notes(page)
    ((load,), (check,)) = first.values()
    assert "12 views, 3 " in load and check
    assert sorted(visible(page)) == sorted([load, check])
    assert page.js(GRAPH) == before
    names = "() => app.graph.nodes.map(n => n.widgets.map(w => w.name))"
    assert not [name for node in page.js(names) for name in node if name.startswith("$$node-text")]
    # the nodes have grown: nothing is cut off
    whole = "[...document.querySelectorAll('.gs4d-node-notes')].every(e => e.clientHeight >= e.scrollHeight)"
    assert page.js(f"() => {whole}")
    if renderer == "canvas":
        ends = "n.widgets.every(w => w.y + (w.computedHeight ?? 0) <= n.size[1] + 1)"
        assert page.js(f"() => app.graph.nodes.every(n => {ends})")
    run(page)  # nothing has changed: the server answers from its cache
    assert notes(page) == first
    page.js("() => { app.graph.nodes[0].widgets.find(w => w.name === 'frame_step').value = 15; }")
    run(page)
    assert "12 views, 2 " in notes(page)["GS4D_LoadMultiViewVideo"][0]
    assert {len(texts) for texts in notes(page).values()} == {1}
    assert not page.complaints_about_the_pack()


def test_notes_come_back_where_the_frontend_gives_outputs_back(page: Page) -> None:
    page.js(BUILD, capture_and_check(scale=0.5, frame_step=10))
    run(page)
    first, graph = notes(page), page.js(GRAPH)
    # another tab and back
    page.js(TAB, "Comfy.NewBlankWorkflow")
    page.page.wait_for_function("() => !app.graph.nodes.some(n => n.type === 'GS4D_PreflightCheck')")
    page.js(TAB, "Workspace.PreviousOpenedWorkflow")
    page.page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'GS4D_PreflightCheck')")
    page.page.wait_for_timeout(1000)
    assert notes(page) == first
    assert page.js(GRAPH) == graph
    # the saved graph holds no notes; a run out of the queue's history brings them
    page.js("() => { window.outputs = JSON.parse(JSON.stringify(app.nodeOutputs)); }")
    page.js("() => { window.saved = JSON.stringify(app.graph.serialize()); }")
    assert "12 views" not in page.js("() => saved")
    page.js("() => app.loadGraphData(JSON.parse(saved))")
    assert notes(page) == {"GS4D_LoadMultiViewVideo": [], "GS4D_PreflightCheck": []}
    assert page.js(GRAPH) == graph
    page.js("() => { app.nodeOutputs = outputs; }")
    assert notes(page) == first
    # undone and done again
    page.js("() => { app.graph.nodes[0].title = 'other'; }")
    page.js("() => app.loadGraphData(JSON.parse(saved), false)")
    assert notes(page) == first
    assert not page.complaints_about_the_pack()


def test_a_scene_with_markup_plays(running: Server, page: Page) -> None:
    names = (markup.IMAGE, markup.SCRIPT)
    saved_scene(running.base / "input" / "marked.safetensors", names)
    page.open(running.url)
    page.js(
        BUILD,
        [
            ["scene", "GS4D_Load4DScene", {"scene_file": "input/marked.safetensors"}, None],
            ["play", "GS4D_Preview4DScene", {}, "scene"],
        ],
    )
    run(page)
    page.page.wait_for_function("() => document.querySelector('.gs4d')?.gs4d.clips.length", timeout=60_000)
    options: list[Any] = page.js(
        "() => [...document.querySelectorAll('.gs4d select option')].map(o => o.textContent)"
    )
    assert set(names) <= set(options)
    page.js("name => document.querySelector('.gs4d').gs4d.lookThrough(name)", markup.SCRIPT)
    page.page.get_by_role("button", name="Use this camera").click()
    page.page.wait_for_timeout(1500)
    assert page.page.get_by_role("button", name="Use this camera").count() == 1  # as it was
    assert page.js(markup.RAN) is None
    assert not page.complaints_about_the_pack()
