"""The pages for developers and the README say what is so."""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.capture import readers
from engine.capture.description import Capture, View, ViewVideo
from engine.capture.options import LoadOptions
from engine.capture.video_file import probe
from engine.fields import number
from engine.files.jsonfile import read_json
from engine.files.paths import inside, require_file
from engine.messages import Finished, Started, result
from engine.scene import Scene4D
from engine.steps.step import Input, Kind, Output, Step
from tests.scenes import moving_scene

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHITECTURE = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
sys.path.insert(0, str(REPOSITORY / "tools"))
import node_table  # noqa: E402


def test_the_table_of_nodes_is_that_of_the_declarations():
    page = node_table.PAGE.read_text(encoding="utf-8")
    assert page == node_table.renewed(page), "run tools/node_table.py"


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_every_room_of_the_engine_is_on_the_page():
    rooms = {p.parent.name for p in (REPOSITORY / "engine").glob("*/__init__.py")}
    missing = {room for room in rooms if not re.search(rf"\b{room}\b", ARCHITECTURE)}
    assert not missing


def example(mark: str) -> str:
    """The block of Python on the page that holds `mark`."""
    return next(block for block in re.findall(r"```python\n(.*?)```", ARCHITECTURE, re.S) if mark in block)


def test_the_reader_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = {
        "np": np, "Path": Path, "LoadOptions": LoadOptions, "Capture": Capture, "View": View, "ViewVideo": ViewVideo,
        "read_json": read_json, "require_file": require_file, "inside": inside, "probe": probe,
    }  # fmt: skip
    exec(compile(example("def recognizes"), "docs/ARCHITECTURE.md", "exec"), names)  # noqa: S102
    monkeypatch.setitem(readers.READERS, "rig", (names["recognizes"], names["read"], "rig.json"))
    walker = REPOSITORY / "assets" / "clips" / "walker"
    truth = readers.load_video(walker, LoadOptions(background="keep"))
    cameras = []
    for i, name in enumerate(truth.cameras.names[:3]):
        shutil.copyfile(walker / "videos" / f"{name}.mp4", tmp_path / f"{name}.mp4")
        K, pose = truth.cameras.K[i].tolist(), truth.cameras.world_to_camera[i].tolist()
        cameras.append({"name": name, "K": K, "world_to_camera": pose})
    (tmp_path / "rig.json").write_text(json.dumps({"cameras": cameras}), encoding="utf-8")
    video = readers.load_video(tmp_path)
    assert video.layout == "rig" and video.views == 3 and video.moments == truth.moments
    assert torch.allclose(video.cameras.world_to_camera, truth.cameras.world_to_camera[:3], atol=1e-5)
    assert torch.equal(video.source.read(0, 4).image, truth.source.read(0, 4).image)


def test_the_step_of_the_page_works():
    code = example("STEP = ")
    names = {
        "dataclass": dataclass, "number": number, "Scene4D": Scene4D, "Started": Started, "Finished": Finished,
        "Stream": object, "Step": Step, "Input": Input, "Output": Output, "Kind": Kind, "__name__": __name__,
    }  # fmt: skip
    # the example of our own page, as a reader would paste it
    exec(compile(code, "docs/ARCHITECTURE.md", "exec"), names)  # noqa: S102
    scene = moving_scene(count=40)
    step = names["STEP"]
    thinned = result(step.run(scene, step.config(amount=0.25)))
    assert len(thinned.canonical) == 10
    kept = scene.canonical.logit_opacities.sort(descending=True).values[:10]
    assert torch.equal(thinned.canonical.logit_opacities, kept)
    assert len(thinned.at(0.0)) == 10
