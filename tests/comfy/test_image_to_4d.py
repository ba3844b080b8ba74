"""A scene and a video of one image and a path in a real ComfyUI. Random weights."""

import sys
from pathlib import Path
from typing import Any

import graphs
import pytest
from server import Server

pytestmark = pytest.mark.comfy
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def info(running: Server) -> dict[str, Any]:
    from tiny_image_model import save_image_model

    save_image_model(running.base / "models" / "gs4d" / "deeper" / "tiny-image-model")
    return running.get("/object_info")


def generated(info: dict[str, Any], path: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "image": graphs.node(info, "EmptyImage", width=48, height=32, color=0x4080C0),
        "models": graphs.node(info, "GS4D_LoadImageTo4D", model="deeper/tiny-image-model", device="cpu"),
        "path": graphs.node(info, "GS4D_CameraPath", kind="arc left", width=32, height=32, **path),
        "made": graphs.node(
            info, "GS4D_GenerateFromImage", models=["models", 0], image=["image", 0], path=["path", 0], **changed
        ),
        "parts": graphs.node(info, "GetVideoComponents", video=["made", 1]),
        "seen": graphs.node(info, "PreviewImage", images=["parts", 0]),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["made", 0], filename_prefix="gs4d/generated"),
    }  # fmt: skip


def test_an_image_becomes_a_scene_and_a_video(running: Server, info: dict[str, Any]) -> None:
    run = running.run(generated(info, {"frames": 5}, steps=3, preview_every=1))
    assert run.outcome == "execution_success", run.error
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    notes = "\n".join(shown["made"]["gs4d_notes"])
    assert "5 frames" in notes and "Gaussians" in notes and "33% of the image was cropped" in notes
    assert len(shown["seen"]["images"]) == 5 and len(shown["made"]["images"]) == 1
    assert run.progress("made")[-1] == 3 + 2
    assert list((running.base / "output" / "gs4d").glob("generated*.safetensors"))


def test_a_path_of_another_length_is_one_sentence(running: Server, info: dict[str, Any]) -> None:
    run = running.run(generated(info, {"frames": 7}))
    assert run.outcome == "execution_error" and "5 or 9 frames" in run.error and "GS4D-DIF-071" in run.error


def test_a_folder_that_is_not_there_is_refused_before_the_graph_runs(
    running: Server, info: dict[str, Any]
) -> None:
    graph = generated(info, {"frames": 5})
    graph["models"]["inputs"]["model"] = "../gs4d/deeper"
    status, body = running.post("/prompt", {"prompt": graph})
    assert status == 400 and "NOD-032" in str(body["node_errors"]["models"])
