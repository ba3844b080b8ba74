"""Lift Video to 4D takes the geometry of Depth Anything 3 and MoGe nodes, and a list of cameras through Camera Path."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    try:
        return contracts.ask(str(Path(__file__).with_name("geometry_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("geometry", ["da3", "da3_of_one_view", "moge"])
def test_geometry_of_other_nodes_becomes_a_scene_with_the_true_cameras(
    answers: dict[str, Any], geometry: str
) -> None:
    found = answers[geometry]
    # "da3" brings its own cameras, the others get a list of LOAD3D_CAMERA
    assert found["centers"] < 1e-3
    assert found["depth"] < 0.01 and found["known"] > 0.95 and found["sky"] == 0
    assert found["gaussians"] > 3000
    assert found["moving"] == [6, 60, 80] and found["images"] == [6, 60, 80, 3]
