"""A video without cameras is told from a damaged capture, and figures of trained views are not called held out."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.capture.readers import load_video
from engine.errors import InputError
from engine.messages import result
from engine.steps import evaluate_scene
from tests.conftest import ROOT
from tests.scenes import capture_of, moving_scene

CLIP = ROOT / "assets" / "clips" / "room" / "room.mp4"


def test_a_raw_video_is_pointed_to_calibration_and_to_lifting(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"COLMAP.*Lift Video to 4D.*CAP-240"):
        load_video(CLIP)
    shutil.copy(CLIP, tmp_path / "dog.mp4")
    with pytest.raises(InputError, match=r"'dog\.mp4' comes without cameras"):
        load_video(tmp_path)
    shutil.copy(CLIP, tmp_path / "cat.mp4")
    with pytest.raises(InputError, match="CAP-077"):
        load_video(tmp_path)


def test_trained_views_are_not_called_held_out() -> None:
    scene = moving_scene(20, views=3)
    video = capture_of(scene)
    found = result(evaluate_scene.run(scene, video))
    assert found.to_json()["note"] == "" and found.to_json()["which"] == "held out"
    nothing_held = replace(video, test_views=())
    found = result(evaluate_scene.run(scene, nothing_held))
    assert "were trained on" in found.to_json()["note"] and found.to_json()["note"] in found.text()
    assert found.to_json()["which"] == "all"
    asked = result(evaluate_scene.run(scene, nothing_held, evaluate_scene.Config(views="all")))
    assert asked.to_json()["note"] == ""
