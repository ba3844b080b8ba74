"""A graph that is refused before it runs: the wrong widget alone is marked, in the oldest and the newest frontend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import Page, browsing
from server import Server

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
# the graph of one node whose output is looked at; what the page then holds about it
REFUSED = """async ([type, widgets]) => {
  app.graph.clear();
  const node = LiteGraph.createNode(type), shown = LiteGraph.createNode('GS4D_PreflightCheck');
  app.graph.add(node);
  app.graph.add(shown);
  for (const [name, value] of Object.entries(widgets)) node.widgets.find(w => w.name === name).value = value;
  node.connect(0, shown, 0);
  try { await app.queuePrompt(0, 1); } catch {}
  const found = app.lastNodeErrors?.[node.id]?.errors ?? [];
  return found.map(error => [error.extra_info.input_name, error.details]);
}"""


@pytest.fixture(scope="module", params=["running", "newest"])
def page(request: pytest.FixtureRequest, chromium: str) -> Iterator[Page]:
    server: Server = request.getfixturevalue(request.param)
    with browsing(chromium) as opened:
        opened.open(server.url)
        yield opened


@pytest.mark.parametrize(
    ("widgets", "wrong"),
    [
        ({"clip": "demo: walker", "folder": "input/nowhere"}, "folder"),
        ({"clip": "input/nowhere"}, "clip"),
        ({"clip": "input/nowhere", "scale": 1e9}, "clip scale"),
    ],
)
def test_the_wrong_widget_alone_is_marked(page: Page, widgets: dict[str, Any], wrong: str) -> None:
    found = page.js(REFUSED, ["GS4D_LoadMultiViewVideo", widgets])
    assert sorted(name for name, _ in found) == wrong.split()
    assert any("nowhere" in details and "[GS4D-NOD-014]" in details for _, details in found)
