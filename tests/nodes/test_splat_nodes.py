"""A scene with z up through the nodes for splats and cameras, in a real ComfyUI's interpreter."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    try:
        return contracts.ask(str(Path(__file__).with_name("splat_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_splats_have_up_where_comfyui_has_it_unless_it_is_left(answers: dict[str, Any]) -> None:
    in_scene, in_splat = (np.array(heights) for heights in answers["height"])
    assert np.ptp(in_scene) > 1 and np.allclose(in_scene, in_splat, atol=1e-6)
    assert answers["stored"]
    assert "the cameras' up, +z, is now −y" in answers["notes"]


def test_a_scene_comes_back_as_it_was(answers: dict[str, Any]) -> None:
    assert max(answers["away"].values()) < 1e-5 and answers["same_rig"]
    # only what nothing tells is assumed, and said
    assert {name: "is taken for upright" in said for name, said in answers["said"].items()} == {
        "direct": False,
        "anew": True,
        "as_stored": False,
        "told": False,
    }


def test_a_splat_alone_stands_upright_and_keeps_the_axis_that_its_node_names(answers: dict[str, Any]) -> None:
    assert np.allclose(answers["alone"], [0, -1, 0], atol=1e-6)
    assert answers["told_z_up"] < 1e-5


def test_nodes_that_take_scenes_or_splats_get_the_same_of_both(answers: dict[str, Any]) -> None:
    assert answers["canonical"] < 1e-6


def test_the_players_camera_is_upright_and_renders_what_was_framed(answers: dict[str, Any]) -> None:
    player = answers["player"]
    assert player["y"] == pytest.approx(player["height"], abs=1e-9) and player["away"] < 1e-9
    assert np.allclose(player["splat_up"], [0, -1, 0], atol=1e-6), "a splat lies on its side in the player"
