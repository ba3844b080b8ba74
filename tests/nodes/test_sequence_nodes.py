"""Sequences in folders and zips through Export 4D Scene and Import 4D Scene, in a real ComfyUI's interpreter."""

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
        return contracts.ask(str(Path(__file__).with_name("sequence_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("container", ["folder", "zip"])
def test_a_scene_leaves_as_a_sequence_and_comes_back(answers: dict[str, Any], container: str) -> None:
    made = answers[container]
    name = "walks/folder_00001" if container == "folder" else "walks/zip_00001_.zip"
    assert made["source"] == f"output/{name}" and made["valid"] is True and made["is_watched"]
    assert made["away"] < 1e-6 and made["times"] == [0.0, 0.5, 1.0] and made["trains"]
    assert "3 frames, 2 per second" in made["said"]
    assert "3 frames, 2 per second, as sequence.json says." in made["imported"]
    assert "24 Gaussians, the same in all frames by their order." in made["imported"]


def test_a_zip_that_was_cut_off_is_one_sentence(answers: dict[str, Any]) -> None:
    assert answers["bad"].startswith("bad.zip is not a complete zip file")
