"""Files into and out of a ComfyUI on another machine: captures of connected images, uploads, zips."""

from __future__ import annotations

import json
import urllib.request
import uuid
import zipfile
from pathlib import Path
from typing import Any

import graphs
import pytest
from server import Server

from engine.deform import PerFrame
from engine.io.scene_file import save_scene
from tests.conftest import ROOT
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


def upload(running: Server, name: str, data: bytes) -> str:
    """A file sent to ComfyUI's own endpoint, as the page does; its name in the pack's lists."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    request = urllib.request.Request(
        f"{running.url}/upload/image",
        head.encode() + data + f"\r\n--{mark}--\r\n".encode(),
        {"Content-Type": f"multipart/form-data; boundary={mark}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return f"input/{json.loads(answer.read())['name']}"


def zipped_walker(path: Path) -> Path:
    """The demo capture, in a folder inside a zip."""
    clip = ROOT / "assets" / "clips" / "walker"
    with zipfile.ZipFile(path, "w") as made:
        for file in clip.rglob("*"):
            if file.is_file():
                made.write(file, f"my shot/{file.relative_to(clip).as_posix()}")
    return path


def test_an_uploaded_zip_is_a_capture(running: Server, tmp_path: Path) -> None:
    data = zipped_walker(tmp_path / "shot.zip").read_bytes()
    name = upload(running, "shot.zip", data)
    info = running.get("/object_info")
    assert name in info["GS4D_LoadMultiViewVideo"]["input"]["required"]["clip"][1]["options"]
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", clip=name, scale=0.5),
        "check": graphs.node(info, "GS4D_PreflightCheck", video=["load", 0], moments=1),
    }
    graph["check"]["inputs"]["moments"] = -1
    assert running.post("/prompt", {"prompt": graph})[0] == 400
    assert not list(running.base.rglob("my shot")), "ComfyUI's question does not wait for the unpacking"
    graph["check"]["inputs"]["moments"] = 1
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    assert "12 views, 30 frames" in run.notes["load"][0]
    assert list(running.base.rglob("my shot"))
    # none of these is read, and each says why before anything runs
    with zipfile.ZipFile(tmp_path / "outside.zip", "w") as made:
        made.writestr("../outside.mp4", b"x")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as made:
        made.writestr("readme.txt", b"no videos")
    bad = {
        "half": (data[: len(data) // 2], "FIL-143"),
        "outside": ((tmp_path / "outside.zip").read_bytes(), "FIL-147"),
    }
    for kind, (content, code) in bad.items():
        graph["load"]["inputs"]["clip"] = upload(running, f"{kind}.zip", content)
        status, answer = running.post("/prompt", {"prompt": graph})
        assert status == 400 and code in json.dumps(answer), kind
    graph["load"]["inputs"]["clip"] = upload(running, "text.zip", (tmp_path / "text.zip").read_bytes())
    refused = running.run(graph)
    assert "[GS4D-CAP-077]" in refused.error
    assert not list(running.base.rglob("outside.mp4"))
