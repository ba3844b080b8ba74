"""Graphs of earlier versions in the real canvas: they open without an error, keep their numbers and are taken to run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from published_models import PUBLISHED
from server import Server

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
OLD = sorted((Path(__file__).resolve().parents[1] / "old_graphs").glob("*.json"))
# files that workflows name, beside those that ComfyUI offers to download
FILES = (
    "input/example.png",
    "models/gs4d/gvfdiffusion/deformation_mean.pt",
    "models/gs4d/gvfdiffusion/ema_static_vae_0.9999_200000.pt",
    "models/gs4d/dinov2-with-registers-large/config.json",
    "models/gs4d/TRELLIS-image-large/pipeline.json",
)


@pytest.fixture(scope="module")
def opened(chromium: str, running: Server) -> Iterator[browser.Page]:
    """One page for all graphs; the models that some of them name are there, by name."""
    models = [f"models/{folder}/{name}" for name, (folder, _) in PUBLISHED.items()]
    made = [path for name in (*models, *FILES) if not (path := running.base / name).exists()]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with browser.browsing(chromium) as page:
        page.open(running.url)
        yield page
    running.withdraw()
    for path in made:
        path.unlink()


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
