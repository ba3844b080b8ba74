"""Nodes that are made from a step's declaration, in a real ComfyUI's interpreter."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

from engine.cli.kinds import READERS, WRITERS
from engine.steps.step import Kind

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    try:
        return contracts.ask(str(Path(__file__).with_name("step_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_one_more_field_is_one_more_optional_input_at_the_end(answers: dict[str, Any]) -> None:
    before, grown = answers["before"], answers["grown"]
    assert grown["required"] == before["required"]
    assert grown["optional"] == [*before["optional"], "sparkle"]
    assert answers["sparkle"]["display_name"] == "glitter" and answers["sparkle"]["default"] == 0.5


def test_paths_are_checked_before_the_run(answers: dict[str, Any]) -> None:
    assert "outside the readable folders" in answers["outside"]
    assert answers["wired"] is True


def test_a_node_says_which_rasterizer_ran_and_where(answers: dict[str, Any]) -> None:
    made, hardware = answers["ran"]
    assert made == "made" and " rasterizer on " in hardware


def test_prepare_gpu_runs_each_time(answers: dict[str, Any]) -> None:
    assert answers["always"] is True


def test_a_gpu_that_is_not_there_is_named(answers: dict[str, Any]) -> None:
    assert "cuda:7" in answers["second_gpu"] and "NOD-0" in answers["second_gpu"]


def test_every_kind_looks_like_something_on_both_sides() -> None:
    source = (contracts.REPOSITORY / "nodes" / "kinds.py").read_text(encoding="utf-8")
    assert all(f"Kind.{kind.name}:" in source for kind in Kind)
    only_made = {Kind.FILES, Kind.VIDEO, Kind.TEXT, Kind.REPORT, Kind.NUMBER, Kind.WHOLE_NUMBER, Kind.FLAG}
    only_made |= {Kind.WAN_CAMERA_EMBEDDING}
    only_on_the_canvas = {Kind.CAMERA_PATH, Kind.FRAMED_VIEW, Kind.SETTINGS, Kind.IMAGES, Kind.SOURCE}
    only_on_the_canvas |= {Kind.MODEL_FILE}
    assert set(Kind) == set(READERS) | set(WRITERS) | only_made | only_on_the_canvas
