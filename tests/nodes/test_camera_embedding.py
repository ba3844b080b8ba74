"""The camera embedding is the one that ComfyUI's own WanCameraEmbedding makes, and WanCameraImageToVideo takes it."""

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
        return contracts.ask(str(Path(__file__).with_name("camera_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_the_embedding_of_each_named_path_is_comfyuis_own(answers: dict[str, Any]) -> None:
    # ComfyUI computes in float32
    assert len(answers["differences"]) == 5 and max(answers["differences"].values()) < 2e-6
    assert all(ours == theirs and a == b for ours, theirs, a, b in answers["shapes"])


def test_comfyuis_video_node_takes_it(answers: dict[str, Any]) -> None:
    assert answers["conditions"] == [1, 24, 3, 48, 64] and answers["latents"][2] == 3
