"""What artists type into the search for nodes finds the nodes that they need."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy
QUESTION = """
import asyncio
import importlib

def answer(pack):
    extension = asyncio.run(pack.comfy_entrypoint())
    compat = importlib.import_module(pack.__name__ + ".nodes.compat")
    real, found = compat.make, {}
    def make(target, *args, **keywords):
        if target is compat.io.Schema:
            found[keywords["node_id"]] = [keywords["display_name"], *keywords["search_aliases"]]
        return real(target, *args, **keywords)
    compat.make = make
    order = [node.define_schema().node_id for node in asyncio.run(extension.get_node_list())]
    return [order, found]
"""
TYPED = {
    "4dgs": ["Train4DScene", "Preview4DScene", "LoadMultiViewVideo", "Save4DScene", "CameraPath"],
    "4d gaussian": ["Train4DScene", "Preview4DScene", "LoadMultiViewVideo", "Export4DScene"],
    "gaussian splat": ["Train4DScene", "Preview4DScene", "Import4DScene"],
    "dynamic": ["Train4DScene", "Render4DScene"],
    "train": ["Train4DScene", "TrainingSettings"],
    "freeze time": ["CameraPath", "SceneToSplat"],
    "bullet time": ["CameraPath"],
    "slow motion": ["CameraPath"],
    "turntable": ["CameraPath"],
    "video to 4d": ["Train4DScene", "LiftVideo"],
    "image to 4d": ["GenerateFromImage"],
    "mask": ["LiftMask", "SegmentByText", "HeadRegionMask"],
    "eye": ["HeadRegionMask", "PoseHead"],
    "mouth": ["HeadRegionMask", "PoseHead"],
    "smile": ["PoseHead"],
    "player": ["Preview4DScene"],
    "play": ["Preview4DScene"],
    "viewer": ["Preview4DScene"],
    "before after": ["Preview4DScene"],
    "upload": ["LoadMultiViewVideo", "Import4DScene"],
    "download": ["Save4DScene", "Export4DScene"],
    "ply": ["Import4DScene", "Export4DScene"],
    "unreal": ["Export4DScene"],
    "prompt": ["EditViews"],
    "style": ["EditViews"],
    "multiview": ["LoadMultiViewVideo"],
    "colmap": ["LoadMultiViewVideo"],
    "depth": ["AddDepth", "AlignDepth", "Render4DScene"],
    "dance": ["AnimateSplatWithMesh"],
    "psnr": ["EvaluateScene", "EvaluateEdit"],
    "matting": ["PrepareVideo"],
    "screenshot": ["SceneViews"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, list[str]]]:
    question = tmp_path_factory.mktemp("search") / "question.py"
    question.write_text(QUESTION)
    try:
        order, words = contracts.ask(str(question))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise
    return order, words


@pytest.mark.parametrize("typed", TYPED)
def test_words_find_nodes(answers: tuple[list[str], dict[str, list[str]]], typed: str) -> None:
    _, words = answers
    found = {node for node, known in words.items() if any(typed in word.lower() for word in known)}
    assert {f"GS4D_{name}" for name in TYPED[typed]} <= found


def test_every_node_is_found_by_what_the_pack_is_for(answers: tuple[list[str], dict[str, list[str]]]) -> None:
    order, words = answers
    assert set(order) == words.keys()
    assert [node for node, known in words.items() if "4dgs" not in known] == []
    assert [node for node, known in words.items() if len(set(known)) != len(known)] == []


def test_a_wire_from_a_scene_offers_the_player_first(
    answers: tuple[list[str], dict[str, list[str]]],
) -> None:
    order, _ = answers  # what a dropped wire offers is in the order of the nodes
    agreed = json.loads(contracts.SCHEMAS.read_text(encoding="utf-8"))
    takes_scene = [
        node for node in order if any("GS4D_SCENE" in i["type"] for i in agreed[node]["inputs"].values())
    ]
    assert takes_scene[0] == "GS4D_Preview4DScene"
