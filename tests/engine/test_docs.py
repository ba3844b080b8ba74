"""The pages for developers and the README say what is so."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.fields import number
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


def test_the_step_of_the_page_works():
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", ARCHITECTURE, re.S) if "STEP = " in block
    )
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
