"""Graphs of earlier versions in the real canvas: they open without an error, keep their numbers and are taken to run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from server import Server

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
OLD = sorted((Path(__file__).resolve().parents[1] / "old_graphs").glob("*.json"))
CHECKPOINTS = ("instruct-pix2pix-00-22000.safetensors", "v1-5-pruned-emaonly-fp16.safetensors")


@pytest.fixture(scope="module")
def opened(chromium: str, running: Server) -> Iterator[browser.Page]:
    """One page for all graphs; the checkpoints that some of them name are there, by name."""
    folder = running.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for name in CHECKPOINTS:
        (folder / name).touch()
    with browser.browsing(chromium) as page:
        page.open(running.url)
        yield page


@pytest.mark.parametrize("file", OLD, ids=lambda path: path.stem)
def test_an_old_graph_opens_as_it_was_saved_and_is_taken(
    opened: browser.Page, running: Server, file: Path
) -> None:
    graph = json.loads(file.read_text(encoding="utf-8"))
    before = len(opened.complaints)
    opened.js("graph => app.loadGraphData(graph)", graph)
    opened.page.wait_for_timeout(700)
    assert opened.js("() => app.graph.nodes.filter(n => n.has_errors).length") == 0
    assert not opened.page.get_by_text("Some nodes are missing").count()
    shown = {node["id"]: node for node in opened.js("() => app.graph.serialize().nodes")}
    assert shown.keys() == {node["id"] for node in graph["nodes"]}
    for node in graph["nodes"]:
        now, values = shown[node["id"]], node.get("widgets_values") or []
        if node["type"].startswith("GS4D_"):
            assert now.get("widgets_values", [])[: len(values)] == values, f"{node['type']} lost its numbers"
        wires = {i["name"]: i["link"] for i in node.get("inputs", []) if i.get("link") is not None}
        assert {i["name"]: i["link"] for i in now["inputs"] if i.get("link") is not None} == wires
    prompt = opened.js("async () => (await app.graphToPrompt()).output")
    by_name(prompt, graph)
    # everything is checked before anything runs; what was queued is taken back at once
    status, answer = running.post("/prompt", {"prompt": prompt})
    running.post("/queue", {"clear": True})
    running.interrupt()
    assert status == 200 and not answer["node_errors"], json.dumps(answer)[:1500]
    assert not [
        text
        for text in opened.complaints[before:]
        if "Content Security Policy" not in text and "gs4d" in text.lower()
    ]


def by_name(prompt: dict[str, Any], graph: dict[str, Any]) -> None:
    """Each number of a saved graph arrives under the name that it had."""
    for node in graph["nodes"]:
        if not node["type"].startswith("GS4D_"):
            continue
        names = [slot["name"] for slot in node["inputs"] if slot.get("widget")]
        values = node.get("widgets_values") or []
        assert len(names) == len(values)
        wired = {slot["name"] for slot in node["inputs"] if slot.get("link") is not None}
        sent = prompt[str(node["id"])]["inputs"]
        for name, value in zip(names, values, strict=True):
            if name not in wired:
                assert sent[name] == value, f"{node['type']}.{name}"
