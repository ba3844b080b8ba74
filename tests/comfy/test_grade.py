"""Grade Scene in a real ComfyUI: graded by a preset and a listed table, shown, run again when the table changes, refused."""

from pathlib import Path
from typing import Any

import graphs
import pytest
import torch
from server import Server

from engine.color import ColorTable, Grade
from engine.io.scene_file import load_scene, save_scene
from engine.scene import harmonics
from tests.engine.test_cube_file import bent, write_cube
from tests.scenes import moving_scene

pytestmark = pytest.mark.comfy
SCENE = moving_scene(40, moments=3, views=2, sh_degree=0)


@pytest.fixture(scope="module")
def table(running: Server) -> Path:
    from engine.deform import PerFrame

    still = SCENE.with_(deformation=PerFrame.of([SCENE.at(float(t)) for t in SCENE.times], SCENE.times))
    save_scene(still, running.base / "input" / "to_grade.safetensors")
    values = bent(ColorTable.identity(9).values)
    return write_cube(running.base / "input" / "look.cube", ColorTable.lattice(values), 'TITLE "Look"')


def graph(info: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {
        "load": graphs.node(info, "GS4D_Load4DScene", scene_file="input/to_grade.safetensors"),
        "grade": graphs.node(info, "GS4D_GradeScene", scene=["load", 0], **inputs),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["grade", 0], filename_prefix="gs4d/graded"),
    }


def newest(running: Server) -> torch.Tensor:
    """The base colors of the scene that was saved last."""
    path = max(
        (running.base / "output" / "gs4d").glob("graded_*.safetensors"), key=lambda p: p.stat().st_mtime_ns
    )
    return harmonics.dc_to_rgb(load_scene(path).canonical.sh[:, 0])


def test_a_scene_is_graded_by_a_preset_and_a_table_of_the_list(running: Server, table: Path) -> None:
    info = running.get("/object_info")
    options = info["GS4D_GradeScene"]["input"]["optional"]["lut"][1]["options"]
    assert options[0] == "none" and "input/look.cube" in options
    before = harmonics.dc_to_rgb(SCENE.canonical.sh[:, 0])
    run = running.run(graph(info, preset="night", lut="input/look.cube"))
    assert run.outcome == "execution_success", run.error
    assert any("preset night, look.cube (Look)" in text for text in run.said)
    shown = next(data["output"] for data in run.of("executed") if data["node"] == "grade")
    assert len(shown["images"]) == 1
    values = bent(ColorTable.identity(9).values)
    wanted = Grade(preset="night", table=ColorTable.lattice(values)).apply(before)
    torch.testing.assert_close(newest(running), wanted, atol=1e-5, rtol=0)
    # the same name, another table
    write_cube(table, ColorTable.lattice(values.flip(-1)), 'TITLE "Other"')
    run = running.run(graph(info, preset="night", lut="input/look.cube"))
    assert any("look.cube (Other)" in text for text in run.said)


@pytest.mark.parametrize(
    "name, text, code", [("cut.cube", "LUT_3D_SIZE 17\n0 0 0\n", "GRD-008"), ("none.cube", "", "GRD-014")]
)
def test_a_bad_table_is_one_sentence(running: Server, table: Path, name: str, text: str, code: str) -> None:
    table.with_name(name).write_text(text, encoding="utf-8")
    run = running.run(graph(running.get("/object_info"), lut=f"input/{name}"))
    assert run.outcome == "execution_error"
    assert name in run.error and code in run.error


@pytest.mark.parametrize(
    "place", ["../../etc/hostname", "input/../../secret.cube", "input/to_grade.safetensors"]
)
def test_a_path_outside_the_folders_is_refused_before_the_run(
    running: Server, table: Path, place: str
) -> None:
    made = graph(running.get("/object_info"), lut=place)
    status, answer = running.post("/prompt", {"prompt": made})
    assert status == 400
    assert "lut" in str(answer["node_errors"])
