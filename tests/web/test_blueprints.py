"""The pack's sub-graph blueprints in a real browser: found, inserted, named for artists, wired to each other, run."""

import json
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from server import PACK_NAME, Server

from engine.train.own_edits import FIT_SHARE

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
FOLDER = Path(__file__).resolve().parents[2] / "subgraphs"
FILES = sorted(FOLDER.glob("*.json"))
TRAIN, EDIT = "Train 4D Scene from Videos", "Edit 4D Scene with Prompt"
RUN = """async () => {
  const seen = {progress: {}, outcome: null, error: null};
  window.seenByTest = seen;
  const on = (name, act) => app.api.addEventListener(name, e => act(e.detail));
  on('progress', d => (seen.progress[d.node] ??= []).push(d.value));
  on('execution_success', () => { seen.outcome = 'success'; });
  on('execution_error', d => { seen.outcome = 'error'; seen.error = d.exception_message; });
  await app.queuePrompt(0, 1);
}"""


def insert(page: Page, name: str) -> dict[str, Any]:
    """As an artist does it: the list of nodes at the side, the name, a click."""
    before = set(page.js("() => app.graph.nodes.map(n => n.id)"))
    if not page.page.get_by_placeholder("Search Nodes").count():
        page.page.get_by_text("Nodes", exact=True).first.click()
    page.page.get_by_placeholder("Search Nodes").first.fill(name)
    page.page.locator(".p-tree-node-content, .tree-leaf").get_by_text(name, exact=True).first.click()
    page.page.wait_for_function("count => app.graph.nodes.length > count", arg=len(before), timeout=15_000)
    page.page.wait_for_timeout(500)
    return page.js(
        """before => { const n = app.graph.nodes.find(n => !before.includes(n.id));
             return {id: n.id, title: n.title, inputs: n.inputs.map(i => [i.name, String(i.type), !!i.widget]),
                     outputs: n.outputs.map(o => o.name), widgets: n.widgets.map(w => [w.name, w.value])}; }""",
        list(before),
    )


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_blueprint_is_one_node_of_which_everything_is_named(file: Path) -> None:
    data = file.read_bytes()
    assert data.isascii(), "ComfyUI reads the file in whatever encoding the machine prefers"
    made = json.loads(data)
    (node,), (inner,) = made["nodes"], made["definitions"]["subgraphs"]
    assert node["type"] == inner["id"] and node["title"] == inner["name"] == file.stem
    assert len(made["extra"]["BlueprintDescription"]) > 40
    names = [slot["name"] for slot in (*inner["inputs"], *inner["outputs"])]
    assert not [name for name in names if "_" in name]
    assert all(slot["linkIds"] for slot in (*inner["inputs"], *inner["outputs"])), "a socket leads nowhere"


def test_the_blueprint_of_an_edit_lists_what_the_bundled_model_knows() -> None:
    facts = FOLDER.parent / "assets" / "models" / "tiny-instruct-pix2pix" / "gs4d.json"
    known = json.loads(facts.read_text(encoding="utf-8"))["main_edits"]
    made = json.loads((FOLDER / f"{EDIT}.json").read_text(encoding="ascii"))
    text = made["extra"]["BlueprintDescription"]
    assert [name for name in known if name.replace("_", " ") not in text] == []


def test_the_server_lists_them(running: Server) -> None:
    listed = [
        e for e in running.get("/global_subgraphs").values() if e["info"]["node_pack"].endswith(PACK_NAME)
    ]
    assert {entry["name"] for entry in listed} == {TRAIN, EDIT} == {path.stem for path in FILES}


def test_they_are_inserted_wired_and_run(page: Page, running: Server) -> None:
    train, edit = insert(page, TRAIN), insert(page, EDIT)
    assert (train["title"], edit["title"]) == (TRAIN, EDIT)
    assert train["outputs"] == ["scene", "video", "report"]
    assert edit["outputs"] == ["scene", "edited views", "originals"]
    sockets = [name for name, _, has_widget in edit["inputs"] if not has_widget]
    assert sockets == ["scene", "video", "selection"]
    assert {"clip", "max seconds (0 = no limit)", "iterations", "max Gaussians"} <= dict(
        train["widgets"]
    ).keys()
    assert dict(train["widgets"])["clip"] == "demo: walker"
    assert dict(edit["widgets"])["prompt"] == "turn it into a gold statue"
    assert len(dict(edit["widgets"])) == len(edit["widgets"]), "a name stands twice"
    page.js(
        """([train, edit]) => {
          const [a, b] = [app.graph.getNodeById(train), app.graph.getNodeById(edit)];
          a.connect(0, b, b.inputs.findIndex(i => i.name === 'scene'));
          a.connect(1, b, b.inputs.findIndex(i => i.name === 'video'));
          const save = LiteGraph.createNode('GS4D_Save4DScene');
          app.graph.add(save);
          save.widgets.find(w => w.name === 'filename_prefix').value = 'gs4d/by blueprint';
          b.connect(0, save, 0);
          a.pos = [0, 0]; b.pos = [400, 0]; save.pos = [850, 0];
          const set = (node, values) => Object.entries(values).forEach(([name, value]) => {
            node.widgets.find(w => w.name === name).value = value;
          });
          set(a, {scale: 0.5, iterations: 12, "max Gaussians": 600});
          set(b, {views: '0 4', prompt: 'make it bronze', 'fit iterations': 7, 'refine iterations (score only)': 2});
          const quick = {GS4D_EditViews: {resolution: 64, steps: 2}, GS4D_RefineScore: {images_per_step: 2, resolution: 64},
                         GS4D_PreflightCheck: {moments: 1}};
          for (const outer of [a, b]) for (const n of outer.subgraph.nodes) set(n, quick[n.type] ?? {});
        }""",
        [train["id"], edit["id"]],
    )
    prompt = page.js("async () => (await app.graphToPrompt()).output")
    by_type = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert by_type["GS4D_EditViews"]["prompt"] == by_type["GS4D_RefineScore"]["prompt"] == "make it bronze"
    assert (by_type["GS4D_FitEdits"]["iterations"], by_type["GS4D_RefineScore"]["iterations"]) == (7, 2)
    assert by_type["GS4D_Train4DScene"]["iterations"] == 12 and by_type["GS4D_Train4DScene"]["budget"] == 600
    assert "selection" not in by_type["GS4D_EditViews"], "nothing is wired to it"
    page.js(RUN)
    page.page.wait_for_function("() => window.seenByTest.outcome", timeout=240_000)
    seen = page.js("() => window.seenByTest")
    assert seen["outcome"] == "success", seen["error"]
    ends = {
        prompt[node]["class_type"]: values[-1] for node, values in seen["progress"].items() if node in prompt
    }
    assert ends["GS4D_Train4DScene"] == 12 and ends["GS4D_FitEdits"] == 7
    # the bundled model refines by its own edits: two editing steps, and a share of the fit's steps
    assert ends["GS4D_RefineScore"] == 2 + round(FIT_SHARE * 7)
    assert list((running.base / "output" / "gs4d").glob("by blueprint_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_a_scene_is_all_that_the_edit_needs(page: Page, running: Server) -> None:
    """Without a capture the refinement looks at the scene from before the edit."""
    train, edit = insert(page, TRAIN), insert(page, EDIT)
    page.js(
        """([train, edit]) => {
          const [a, b] = [app.graph.getNodeById(train), app.graph.getNodeById(edit)];
          a.connect(0, b, b.inputs.findIndex(i => i.name === 'scene'));
          const save = LiteGraph.createNode('GS4D_Save4DScene');
          app.graph.add(save);
          save.widgets.find(w => w.name === 'filename_prefix').value = 'gs4d/of a scene alone';
          b.connect(0, save, 0);
          const set = (node, values) => Object.entries(values).forEach(([name, value]) => {
            node.widgets.find(w => w.name === name).value = value;
          });
          set(a, {scale: 0.5, iterations: 6, "max Gaussians": 300});
          set(b, {views: '0 4', prompt: 'make it bronze', 'fit iterations': 2, 'refine iterations (score only)': 1});
          const quick = {GS4D_EditViews: {resolution: 64, steps: 1}, GS4D_RefineScore: {images_per_step: 1, resolution: 64}};
          for (const outer of [a, b]) for (const n of outer.subgraph.nodes) set(n, quick[n.type] ?? {});
        }""",
        [train["id"], edit["id"]],
    )
    page.js(RUN)
    page.page.wait_for_function("() => window.seenByTest.outcome", timeout=240_000)
    seen = page.js("() => window.seenByTest")
    assert seen["outcome"] == "success", seen["error"]
    assert list((running.base / "output" / "gs4d").glob("of a scene alone_*.safetensors"))
