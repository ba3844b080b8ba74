"""The canvas in other languages: labels, tooltips and categories come from locales/.

Frontends before 1.36 lose what packs translate as soon as another language than English is chosen (ComfyUI_frontend
pull request 7214). On those the page gets our texts as its English ones, so that everything but the choosing is
checked. FRONTEND_PATH names the `static` folder of another frontend to try.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import setup_comfy
from browser import Page, browsing
from server import Server, serving

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
LOCALES = Path(__file__).resolve().parents[2] / "locales"
INVITATION = {
    "zh": "运行工作流",
    "ja": "ワークフローを実行",
    "ko": "워크플로를 실행",
}  # of the player, in its own words
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir() if folder.name != "en")
KEEPS_TRANSLATIONS = (1, 36)

SEEN = """() => {
  const types = Object.keys(LiteGraph.registered_node_types).filter(name => name.startsWith('GS4D_'));
  const seen = {};
  for (const name of types) {
    const node = LiteGraph.createNode(name);
    seen[name] = {
      title: node.title,
      category: LiteGraph.registered_node_types[name].category,
      inputs: Object.fromEntries((node.inputs ?? []).map(slot => [slot.name, slot.localized_name ?? slot.label])),
      widgets: Object.fromEntries((node.widgets ?? []).map(w => [w.name, w.label])),
      outputs: (node.outputs ?? []).map(slot => slot.localized_name ?? slot.label),
    };
  }
  return seen;
}"""


@pytest.fixture(scope="module")
def served(running: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    other, comfy = os.environ.get("FRONTEND_PATH"), setup_comfy.locate()
    if not other or comfy is None:
        yield running
        return
    base = tmp_path_factory.mktemp("languages")
    with serving(comfy.tree, comfy.python, base, "--front-end-root", other) as started:
        yield started


def texts(language: str, name: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / f"{name}.json").read_text(encoding="utf-8"))


def test_the_server_hands_out_every_language(running: Server) -> None:
    given = running.get("/i18n")
    for language in LANGUAGES:
        ours = texts(language, "nodeDefs")
        assert {node: given[language]["nodeDefs"][node] for node in ours} == ours
        assert given[language]["nodeCategories"]["4dgs"] == texts(language, "main")["nodeCategories"]["4dgs"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_speak_the_language_of_the_canvas(language: str, chromium: str, served: Server) -> None:
    nodes, main = texts(language, "nodeDefs"), texts(language, "main")
    assert served.post("/settings/Comfy.Locale", language)[0] == 200
    try:
        with browsing(chromium) as page:
            page.open(served.url)
            page.js("() => { app.graph.add(LiteGraph.createNode('GS4D_Preview4DScene')); }")
            said = page.js("() => document.querySelector('.gs4d-say').textContent")
            if _version(page) < KEEPS_TRANSLATIONS:
                served.post("/settings/Comfy.Locale", "en")
                page.page.route(
                    "**/i18n",
                    lambda route: route.fulfill(
                        status=200, content_type="application/json",
                        body=json.dumps({"en": {**main, "nodeDefs": nodes}}),
                    ),
                )  # fmt: skip
                page.open(served.url)
            seen = page.js(SEEN)
            complaints = page.complaints_about_the_pack()
    finally:
        served.post("/settings/Comfy.Locale", "en")
    assert said.startswith(INVITATION[language])
    assert set(seen) == set(nodes)
    for node, shown in seen.items():
        wanted = nodes[node]
        assert shown["title"] == wanted["display_name"]
        assert shown["category"].split("/")[0] == main["nodeCategories"]["4dgs"]
        for name, text in wanted["inputs"].items():
            assert text["name"] in (shown["widgets"].get(name), shown["inputs"].get(name)), f"{node}.{name}"
        assert shown["outputs"] == [slot["name"] for slot in wanted["outputs"].values()], node
    assert not complaints


def _version(page: Page) -> tuple[int, int]:
    """Version of the frontend that the page runs."""
    major, minor = str(page.js("() => window.__COMFYUI_FRONTEND_VERSION__ ?? '0.0'")).split(".")[:2]
    return int(major), int(minor)
