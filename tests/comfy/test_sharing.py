"""Graphs that people saved with earlier versions of the pack still mean the same: nothing they name or number is gone."""

import json
from pathlib import Path
from typing import Any

import pytest
from server import Server

pytestmark = pytest.mark.comfy
OLD = sorted((Path(__file__).resolve().parents[1] / "old_graphs").glob("*.json"))
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# lists of the models that are installed here
INSTALLED = {
    "GS4D_LoadVariation": {"model", "image_encoder"},
    "GS4D_LoadTrellis": {"trellis", "image_encoder", "decoder"},
}


@pytest.fixture(scope="module")
def info(running: Server) -> dict[str, Any]:
    return running.get("/object_info")


def test_graphs_of_every_kind_were_kept() -> None:
    kinds = {path.stem.split("-", 2)[2] for path in OLD}
    assert {
        "train_and_render",
        "instruct_4dgs",
        "instruct_4dgs_checkpoint",
        "ed_nerf",
        "ed_nerf_checkpoint",
    } <= kinds
    assert len(OLD) >= 12 and len({path.read_bytes() for path in OLD}) == len(OLD)


@pytest.mark.parametrize("file", OLD, ids=lambda path: path.stem)
def test_an_old_graph_fits_the_nodes_of_today(info: dict[str, Any], file: Path) -> None:
    graph = json.loads(file.read_text(encoding="utf-8"))
    ours = [node for node in graph["nodes"] if node["type"].startswith("GS4D_")]
    assert ours
    for node in ours:
        assert node["type"] in info, f"{node['type']} is gone"
        schema = info[node["type"]]
        inputs = {n: spec for section in schema["input"].values() for n, spec in section.items()}
        for slot in node["inputs"]:
            assert slot["name"] in inputs, f"{node['type']}.{slot['name']} is gone"
            kind = inputs[slot["name"]][0]
            # combos were once told as the list of their options
            kinds = kind.split(",") if isinstance(kind, str) else ["COMBO"]
            assert set(slot["type"].split(",")) <= set(kinds), f"{node['type']}.{slot['name']}"
        now = list(zip(schema["output_name"], schema["output"], strict=True))
        for i, slot in enumerate(node["outputs"]):
            assert slot["type"] == now[i][1], f"output {i} of {node['type']} was {slot['type']}"
        widgets = [
            (name, spec[0], spec[1] if len(spec) > 1 else {})
            for section in ("required", "optional")
            for name, spec in schema["input"].get(section, {}).items()
            if spec[0] in WIDGETS
        ]
        values = node.get("widgets_values") or []
        assert len(values) <= len(widgets), f"{node['type']} lost a number"
        for value, (name, kind, options) in zip(values, widgets, strict=False):
            if kind == "COMBO" and name not in INSTALLED.get(node["type"], ()):
                assert value in options["options"], f"{node['type']}.{name} was {value}"
            elif kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], f"{node['type']}.{name} was {value}"
            elif kind == "BOOLEAN":
                assert isinstance(value, bool), f"{node['type']}.{name} was {value}"
            else:
                assert isinstance(value, str), f"{node['type']}.{name} was {value}"
        # a required input that the graph has not got would stop it; later ones must be optional
        missing = set(schema["input"].get("required", {})) - {slot["name"] for slot in node["inputs"]}
        assert not missing, f"{node['type']} now requires {missing}"
