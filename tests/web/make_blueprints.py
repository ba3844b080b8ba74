"""Writes subgraphs/NAME.json by making the sub-graph in the real canvas: python tests/web/make_blueprints.py [NAME …]

The nodes are put into one with the canvas' own conversion, their inputs brought to its outside under an artist's names,
and the node is saved as the canvas publishes a blueprint. build/NAME.png shows it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "comfy"))
sys.path.insert(0, str(REPOSITORY / "tests" / "web"))
import browser  # noqa: E402
import graphs  # noqa: E402
import server  # noqa: E402
import setup_comfy  # noqa: E402
from workflow_pages import PROMPT, Place  # noqa: E402

SUBGRAPHS = REPOSITORY / "subgraphs"


@dataclass(frozen=True)
class Blueprint:
    name: str
    number: int  # of its id
    description: str
    graph: Callable[[dict[str, Any]], dict[str, Any]]  # from /object_info to ComfyUI's API format
    places: dict[str, Place]  # by node id, inside
    inputs: list[tuple[str, str, str]]  # name outside, node id, the node's input
    outputs: list[tuple[str, str, int]]  # name outside, node id, the node's output
    size: tuple[int, int]  # of the node outside


def training(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadMultiViewVideo"),
        "2": node(info, "GS4D_PreflightCheck", video=["1", 0]),
        "3": node(info, "GS4D_Train4DScene", video=["1", 0], max_seconds=180),
    }


def editing(info: dict[str, Any]) -> dict[str, Any]:
    node = graphs.node
    return {
        "1": node(info, "GS4D_LoadGuidance"),
        "2": node(info, "GS4D_EditViews", guidance=["1", 0], prompt=PROMPT),
        "3": node(info, "GS4D_FitEdits", views=["2", 0], iterations=400),
        "4": node(
            info,
            "GS4D_RefineScore",
            scene=["3", 0],
            guidance=["1", 0],
            prompt=PROMPT,
            iterations=20,
            objective="auto",
        ),
    }


BLUEPRINTS = {
    blueprint.name: blueprint
    for blueprint in (
        Blueprint(
            "Train 4D Scene from Videos",
            1,
            "Trains a moving scene of Gaussians from a folder of multi-view videos: loads the capture, checks it and trains.",
            training,
            {"1": (0, 0, 330, 320), "2": (0, 440, 330, 200), "3": (400, 0, 360, 560)},
            [
                ("clip", "1", "clip"),
                ("folder", "1", "folder"),
                ("scale", "1", "scale"),
                ("max seconds (0 = no limit)", "3", "max_seconds"),
                ("iterations", "3", "iterations"),
                ("max Gaussians", "3", "budget"),
                ("motion", "3", "motion"),
                ("seed", "3", "seed"),
                ("settings", "3", "settings"),
            ],
            [("scene", "3", 0), ("video", "1", 0), ("report", "2", 0)],
            (340, 260),
        ),
        Blueprint(
            "Edit 4D Scene with Prompt",
            2,
            "Edits a moving scene with a prompt: edits its views together, fits the scene to them and refines it. The motion "
            "is unchanged. Only a scene is required; the video that it was trained on is optional. Models of a few "
            "steps, such as the bundled one, refine by edits of their own and take three quarters of the fit iterations; refine "
            "iterations are for the score distillation of other models. The bundled "
            "model knows these edits: night, golden hour, black and white, fog, gold, bronze, marble, red, green and blue; on "
            "heads also blue hair, green skin, older and snow.",
            editing,
            {"1": (0, 0, 330, 80), "2": (0, 190, 360, 640), "3": (420, 0, 360, 460), "4": (840, 0, 360, 560)},
            [
                ("scene", "2", "scene"),
                ("scene", "3", "scene"),
                ("scene", "4", "original"),
                ("video", "2", "video"),
                ("video", "4", "video"),
                ("selection", "2", "selection"),
                ("selection", "3", "selection"),
                ("selection", "4", "selection"),
                ("prompt", "2", "prompt"),
                ("prompt", "4", "prompt"),
                ("model", "1", "model"),
                ("guidance scale (0 = auto)", "2", "guidance_scale"),
                ("image guidance scale (0 = auto)", "2", "image_guidance_scale"),
                ("views", "2", "views"),
                ("seed", "2", "seed"),
                ("fit iterations", "3", "iterations"),
                ("refine iterations (score only)", "4", "iterations"),
                ("force unknown prompt", "2", "force"),
                ("force unknown prompt", "4", "force"),
            ],
            [("scene", "4", 0), ("edited views", "2", 1), ("originals", "2", 2)],
            (380, 420),
        ),
    )
}

CONVERT = """([places, inputs, outputs, name, size]) => {
  for (const node of app.graph.nodes) {
    const [x, y, w, h] = places[String(node.id)];
    node.pos = [x, y]; node.setSize([w, Math.max(h, node.computeSize()[1])]);
  }
  const inside = Object.fromEntries(app.graph.nodes.map(n => [String(n.id), n.type]));
  const {subgraph, node} = app.graph.convertToSubgraph(new Set(app.graph.nodes));
  subgraph.name = name; node.title = name;
  const of = id => subgraph.nodes.find(n => n.type === inside[id]);
  const made = {};
  for (const [label, id, input] of inputs) {
    const slot = of(id).inputs.find(i => i.name === input);
    if (!slot) throw new Error(`${inside[id]} has no input ${input}`);
    made[label] ??= subgraph.addInput(label, String(slot.type));
    if (!made[label].connect(slot, of(id))) throw new Error(`${label} cannot be wired to ${input}`);
  }
  for (const [label, id, index] of outputs) {
    const slot = of(id).outputs[index];
    if (!subgraph.addOutput(label, String(slot.type)).connect(slot, of(id))) throw new Error(`${label} is not wired`);
  }
  subgraph.inputNode.pos = [-260, 0]; 
  subgraph.outputNode.pos = [Math.max(...Object.values(places).map(p => p[0] + p[2])) + 120, 0];
  subgraph.inputNode.arrange(); subgraph.outputNode.arrange();
  node.setSize([size[0], Math.max(size[1], node.computeSize()[1])]);
  return node.inputs.length;
}"""
PUBLISH = """description => {
  const node = app.graph.nodes[0];
  const {nodes, subgraphs} = app.canvas._serializeItems([node]);
  const inner = subgraphs[0];
  inner.extra ??= {};
  const made = {revision: 0, last_node_id: 1, last_link_id: 0, nodes, links: [], version: 0.4,
                definitions: {subgraphs}, extra: {BlueprintDescription: description}};
  return JSON.stringify(made);
}"""


def build(comfy: setup_comfy.ComfyTree, made: Blueprint, picture: Path | None = None) -> dict[str, Any]:
    """The blueprint as the canvas serializes it."""
    executable = browser.chromium()
    assert executable, "Chromium is needed to make a blueprint"
    with (
        tempfile.TemporaryDirectory() as base,
        server.serving(comfy.tree, comfy.python, Path(base)) as running,
        browser.browsing(executable, 1900, 1000) as page,
    ):
        page.open(running.url)
        page.js(
            "([graph, name]) => app.loadApiJson(graph, name)",
            [made.graph(running.get("/object_info")), made.name],
        )
        page.page.wait_for_timeout(1000)
        count = page.js(CONVERT, [made.places, made.inputs, made.outputs, made.name, made.size])
        print(f"{made.name}: {count} inputs")
        page.page.wait_for_timeout(1000)
        saved = json.loads(page.js(PUBLISH, made.description))
        if picture is not None:
            page.fit()
            page.picture(str(picture))
            page.js("() => app.canvas.setGraph(app.graph.nodes[0].subgraph)")
            page.fit()
            page.picture(str(picture.with_name(f"{made.name} inside.png")))
    return tidy(saved, made.number)


def tidy(saved: dict[str, Any], number: int) -> dict[str, Any]:
    """Without what changes from save to save: random ids and float noise in positions."""
    inner = saved["definitions"]["subgraphs"][0]
    text = json.dumps(saved)
    ids = [inner["id"], *(slot["id"] for slot in (*inner["inputs"], *inner["outputs"]))]
    for i, old in enumerate(ids):
        text = text.replace(old, f"6a5e0c2f-{number:04}-4000-8000-{i:012}")
    made = json.loads(text)
    made["id"] = f"0f4d65d0-0001-4000-8000-{number:012}"
    inner = made["definitions"]["subgraphs"][0]
    made["nodes"][0]["id"] = 1
    # the canvas also brings every seed outside, of which one is there already
    brought = made["nodes"][0]["properties"]["proxyWidgets"]
    made["nodes"][0]["properties"]["proxyWidgets"] = [pair for pair in brought if pair[0] == "-1"]
    made["nodes"][0]["pos"] = [0, 0]
    for thing in (*made["nodes"], *inner["nodes"], inner["inputNode"], inner["outputNode"]):
        for key in ("pos", "size", "bounding"):
            if key in thing:
                thing[key] = [round(value, 2) for value in thing[key]]
    for slot in (*inner["inputs"], *inner["outputs"]):
        if "pos" in slot:
            slot["pos"] = [round(value, 2) for value in slot["pos"]]
    return made


def main() -> None:
    comfy, pictures = setup_comfy.build(), REPOSITORY / "build"
    pictures.mkdir(exist_ok=True)
    SUBGRAPHS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or list(BLUEPRINTS):
        made = build(comfy, BLUEPRINTS[name], pictures / f"{name}.png")
        # plain ASCII: ComfyUI reads the file in whatever encoding the machine prefers
        (SUBGRAPHS / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
