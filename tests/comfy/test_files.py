"""Files into and out of a ComfyUI on another machine: captures of connected images, uploads, zips."""

from __future__ import annotations

from typing import Any

import graphs
import pytest
from server import Server

from engine.deform import PerFrame
from engine.io.scene_file import save_scene
from tests.scenes import moving_scene

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def info(running: Server) -> dict[str, Any]:
    scene = moving_scene(120, moments=6, views=3)
    pages = PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times)
    save_scene(scene.with_(deformation=pages), running.base / "input" / "files.safetensors")
    return running.get("/object_info")


def test_rendered_images_with_their_cameras_are_trained(running: Server, info: dict[str, Any]) -> None:
    node = graphs.node
    graph = {
        "scene": node(info, "GS4D_Load4DScene", scene_file="input/files.safetensors"),
        "path": node(info, "GS4D_CameraPath", scene=["scene", 0], frames=6, width=64, height=48),
        "render": node(info, "GS4D_Render4DScene", scene=["scene", 0], path=["path", 0], wants_depth=False),
        "capture": node(
            info, "GS4D_CaptureFromVideos", videos=["render", 0], path=["path", 0], order="one moving camera"
        ),
        "train": node(
            info, "GS4D_Train4DScene", video=["capture", 0], iterations=4, budget=200, motion="none", preview_every=0
        ),
        "save": node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix="from images"),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    assert any("6 views, 6 frames" in text for text in run.notes["capture"])
    (file,) = next(data["output"]["files"] for data in run.of("executed") if data["node"] == "save")
    assert (running.base / "output" / file["subfolder"] / file["filename"]).is_file()
    del graph["capture"]["inputs"]["path"]
    refused = running.run(graph)
    assert refused.outcome == "execution_error" and "[GS4D-NOD-071]" in refused.error
    assert refused.of("execution_error")[0]["exception_type"] == "gs4d.InputError"
