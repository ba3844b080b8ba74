"""The faces of nodes in the oldest and the newest frontend: few widgets, words in place of numbers, and graphs as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import Page, browsing
from server import Server

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
MOST = 11
CASES = [("oldest", "canvas"), ("newest", "canvas"), ("newest", "vue")]
# how many widgets each node of the pack shows when it is placed
VISIBLE = """() => Object.fromEntries(Object.keys(LiteGraph.registered_node_types).map(type => {
  if (!type.startsWith('GS4D_')) return [];
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  const isShown = LiteGraph.vueNodesMode ? w => w.visibility.surfaces.vueNode === 'shown' : w => node.isWidgetVisible(w);
  return [type, (node.widgets ?? []).filter(isShown).length];
}).filter(pair => pair.length))"""
ADD = """type => {
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.pos = [0, 0];
}"""
# what the canvas writes, in one drawing
DRAWN = """async () => {
  const texts = [], { fillText } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
    texts.push(text);
    return fillText.call(this, text, ...more);
  };
  app.canvas.draw(true, true);
  CanvasRenderingContext2D.prototype.fillText = fillText;
  return texts;
}"""
GRAPH = """async () => {
  const [node] = app.graph.serialize().nodes;
  return [node.widgets_values, (await app.graphToPrompt()).output];
}"""
NODE = "app.graph.nodes[0]"
TOGGLE = f"() => {NODE}.widgets.find(w => w.name === 'gs4d_more').callback()"
NAMES = f"""() => LiteGraph.vueNodesMode
  ? {NODE}.widgets.filter(w => w.visibility.surfaces.vueNode === 'shown').map(w => w.name)
  : {NODE}.widgets.filter(w => ({NODE}.isWidgetRowVisible ?? {NODE}.isWidgetVisible).call({NODE}, w)).map(w => w.name)"""
ROWS = "() => [...document.querySelectorAll('.lg-node-widget')].filter(e => e.clientHeight).map(e => e.innerText)"


# one page for all tests of a frontend and renderer: opening one takes as long as most of them
@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def page(request: pytest.FixtureRequest, chromium: str) -> Iterator[Page]:
    frontend, renderer = request.param
    server: Server = request.getfixturevalue({"oldest": "running", "newest": "newest"}[frontend])
    assert server.post("/settings/Comfy.VueNodes.Enabled", renderer == "vue")[0] == 200
    with browsing(chromium, 1900, 1000) as opened:
        opened.open(server.url)
        yield opened
    server.post("/settings/Comfy.VueNodes.Enabled", False)


def is_vue(page: Page) -> bool:
    return page.js("() => Boolean(LiteGraph.vueNodesMode)")


def test_no_node_shows_more_than_about_ten_widgets(page: Page) -> None:
    shown: dict[str, int] = page.js(VISIBLE)
    assert len(shown) > 50
    assert not {node: count for node, count in shown.items() if count > MOST}


def test_numbers_that_stand_for_words_are_shown_as_words(page: Page) -> None:
    page.js(ADD, "GS4D_CameraPath")
    page.fit()
    if is_vue(page):
        assert "elevation (-1000 = as captured)" in page.js(ROWS)
        return
    texts = page.js(DRAWN)
    assert {"elevation", "as captured", "width", "captured"} <= set(texts)
    assert not [text for text in texts if "1000" in str(text)]
    page.js(f"() => {{ {NODE}.widgets.find(w => w.name === 'elevation').value = 12; }}")
    assert {"elevation (-1000 = as captured)", "12"} <= set(page.js(DRAWN))


# where a widget of the canvas lies in the page
PLACE = f"""name => {{
  const node = {NODE}, widget = node.widgets.find(w => w.name === name), {{ds, canvas}} = app.canvas;
  const {{left, top}} = canvas.getBoundingClientRect();
  const at = (value, i) => (node.pos[i] + value + ds.offset[i]) * ds.scale;
  return [left + at(node.size[0] / 2, 0), top + at(widget.y + 10, 1)];
}}"""
# what the arrows and dragging do
STEP = f"""value => {{
  const node = {NODE}, widget = node.widgets.find(w => w.name === 'elevation');
  widget.value = -1000;
  widget.setValue(value, {{e: {{canvasX: 0, canvasY: 0}}, node, canvas: app.canvas}});
  return widget.value;
}}"""
VALUE = f"name => {NODE}.widgets.find(w => w.name === name).value"


def test_words_can_be_typed_and_arrows_lead_to_amounts(page: Page) -> None:
    if is_vue(page):
        pytest.skip("the Vue renderer takes numbers alone")
    page.js(ADD, "GS4D_CameraPath")
    page.fit()
    for shown, typed, value in (
        ("as captured", "35", 35),
        ("35", "As Captured", -1000),
        ("as captured", "nonsense", -1000),
        ("as captured", "-20", -20),
    ):
        page.page.mouse.click(*page.js(PLACE, "elevation"))
        field = page.page.locator(".graphdialog input")
        assert field.input_value() == shown
        field.fill(typed)
        field.press("Enter")
        page.page.wait_for_selector(".graphdialog", state="detached")
        assert page.js(VALUE, "elevation") == value
    assert page.js(STEP, -999) == 0 and page.js(STEP, -30) == -30


def test_more_settings_change_what_is_seen_and_nothing_else(page: Page) -> None:
    page.js(ADD, "GS4D_EditViews")
    page.fit()
    before, size, names = page.js(GRAPH), page.js(f"() => [...{NODE}.size]"), page.js(NAMES)
    assert "prompt" in names and "key_view" not in names
    assert len(before[0]) == 30, "every value is saved"
    page.js(TOGGLE)
    page.page.wait_for_timeout(500)
    if is_vue(page):
        assert len(page.js(ROWS)) == 30
    else:
        # the values, the button, and what becomes of the seed
        assert len(page.js(NAMES)) == 32
        assert page.js(f"() => {NODE}.size[1]") > size[1] + 300
        assert "fewer settings" in page.js(DRAWN)
    assert page.js(GRAPH) == before
    # the graph keeps it
    page.js("async () => { await app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize()))); }")
    assert page.js(f"() => {NODE}.showAdvanced") is True
    assert page.js(GRAPH)[0] == before[0]
    page.js(TOGGLE)
    page.page.wait_for_timeout(500)
    assert page.js(NAMES) == names and page.js(GRAPH)[0] == before[0]
    if not is_vue(page):
        assert page.js(f"() => [...{NODE}.size]") == size
    assert not page.complaints_about_the_pack()


CHANGED = """async () => {
  const [node] = app.graph.nodes;
  node.widgets.find(w => w.name === 'key_view').value = 3;
  const source = LiteGraph.createNode('PrimitiveInt');
  app.graph.add(source);
  source.pos = [-400, 0];
  source.connect(0, node, node.inputs.findIndex(i => i.name === 'resolution'));
  await app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())));
}"""


def test_what_was_changed_or_wired_stays_visible(page: Page) -> None:
    page.js(ADD, "GS4D_EditViews")
    page.js(CHANGED)
    page.page.wait_for_timeout(500)
    names: list[str] = page.js(NAMES)
    assert {"key_view", "resolution"} <= set(names) and "attention" not in names
    values: dict[str, Any] = page.js(f"() => Object.fromEntries({NODE}.widgets.map(w => [w.name, w.value]))")
    assert values["key_view"] == 3 and values["attention"] == "keyframe"


SEED = f"""async value => {{
  const {{widgets}} = {NODE}, control = widgets.find(w => w.name === 'control_after_generate');
  if (value) control.value = value;
  await app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())));
  const [node] = app.graph.nodes, again = node.widgets.find(w => w.name === 'control_after_generate');
  for (const widget of node.widgets) widget.beforeQueued?.();
  for (const widget of node.widgets) widget.afterQueued?.();
  return [again.value, node.widgets.find(w => w.name === 'seed').value, node.properties.gs4d_seed ?? null,
          app.graph.serialize().nodes[0].widgets_values.length];
}}"""


def test_a_seed_changes_with_each_run_only_if_wanted(page: Page) -> None:
    page.js(ADD, "GS4D_EditViews")
    assert page.js(SEED, "") == ["fixed", 0, None, 30]
    assert page.js(SEED, "increment") == ["increment", 1, "increment", 30]
    value, seed, kept, count = page.js(SEED, "randomize")
    assert (value, kept, count) == ("randomize", "randomize", 30) and seed > 1
    assert page.js(SEED, "fixed") == ["fixed", seed, None, 30]
    prompt = page.js("async () => Object.values((await app.graphToPrompt()).output)[0].inputs")
    assert "control_after_generate" not in prompt and len(prompt) == 30
    if is_vue(page):
        assert page.page.locator(
            "[data-node-id] button[aria-label*='ontrol'], [data-testid*='control']"
        ).count()
