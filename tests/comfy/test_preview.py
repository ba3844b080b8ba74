"""The player's node in a real ComfyUI: what it hands to the canvas, and that the camera it gives is the one framed."""

import json
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from PIL import Image
from server import Run, Server

from engine.io.scene_file import save_scene
from engine.playback.player_file import decode_player_file, read_player_file
from engine.scene import Scene4D
from tests.pack_modules import pack_module
from tests.scenes import moving_scene, ring

pytestmark = pytest.mark.comfy
to_load3d = pack_module("load3d").to_load3d


@pytest.fixture(scope="module")
def info(running: Server) -> dict[str, Any]:
    return running.get("/object_info")


@pytest.fixture(scope="module")
def scene(running: Server) -> Scene4D:
    made = moving_scene(120, moments=8, views=3)
    save_scene(made.with_(deformation=_flipbook(made)), running.base / "input" / "swing.safetensors")
    other = moving_scene(90, seed=1, moments=8, views=3)
    save_scene(other.with_(deformation=_flipbook(other)), running.base / "input" / "other.safetensors")
    return made


def _flipbook(scene: Scene4D) -> Any:
    from engine.deform import PerFrame

    return PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times)


def preview(info: dict[str, Any], compare: bool = False, **inputs: Any) -> dict[str, Any]:
    graph = {
        "load": graphs.node(info, "GS4D_Load4DScene", scene_file="input/swing.safetensors"),
        "play": graphs.node(info, "GS4D_Preview4DScene", scene=["load", 0], **inputs),
    }
    if compare:
        graph["other"] = graphs.node(info, "GS4D_Load4DScene", scene_file="input/other.safetensors")
        graph["play"]["inputs"]["compare"] = ["other", 0]
    return graph


def shown(run: Run, node: str = "play") -> dict[str, Any]:
    assert run.outcome == "execution_success", run.error
    return next(data["output"] for data in run.of("executed") if data["node"] == node)


def fetch(running: Server, place: dict[str, str]) -> bytes:
    return running.get_bytes(
        f"/view?filename={place['filename']}&subfolder={place['subfolder']}&type={place['type']}"
    )


def test_the_canvas_gets_a_clip_and_a_small_video(
    running: Server, info: dict[str, Any], scene: Scene4D
) -> None:
    output = shown(running.run(preview(info)))
    (place,), (movie,) = output["clip"], output["movie"]
    clip = decode_player_file(fetch(running, place), "clip")
    assert len(clip.base) == 120 and clip.moving > 0 and clip.max_error <= 0.002
    assert len(clip.times) == 8
    data = fetch(running, movie)
    assert data[4:8] == b"ftyp" and len(data) < 200_000
    assert not output["notes"]


def test_running_again_and_framing_anew_add_no_files(
    running: Server, info: dict[str, Any], scene: Scene4D
) -> None:
    first = shown(running.run(preview(info, compare=True)))
    assert len(first["clip"]) == 2 and len(first["movie"]) == 2
    folder = running.base / "temp" / "gs4d"
    # the folders there are of other nodes
    before = sorted(p.name for p in folder.iterdir() if p.is_file())
    assert [n for n in before if not n.endswith((".gs4dclip", ".mp4"))] == []
    camera = json.dumps(to_load3d(scene.rig, 1, torch.zeros(3)))
    again = shown(running.run(preview(info, compare=True, camera=camera)))
    assert again["clip"] == first["clip"]
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == before
    counts = [len(read_player_file(folder / place["filename"]).base) for place in first["clip"]]
    assert counts == [120, 90]


def test_a_scene_played_by_two_nodes_is_baked_once(
    running: Server, info: dict[str, Any], scene: Scene4D
) -> None:
    graph = preview(info, compare=True)
    graph["alone"] = graphs.node(info, "GS4D_Preview4DScene", scene=["load", 0])
    run = running.run(graph)
    assert shown(run, "alone")["clip"] == shown(run)["clip"][:1]


def test_left_out_gaussians_are_told(running: Server, info: dict[str, Any], scene: Scene4D) -> None:
    output = shown(running.run(preview(info, compare=True, most=100, makes_movie=False)))
    assert output["notes"] == [
        "Before: Thinned from 120 to 100 Gaussians; the least visible ones were dropped."
    ]
    assert not output["movie"]


@pytest.mark.parametrize("view", [0, 2])
def test_the_framed_camera_renders_what_was_framed(
    running: Server, info: dict[str, Any], scene: Scene4D, view: int
) -> None:
    camera = json.dumps(to_load3d(scene.rig, view, torch.zeros(3))) if view else ""
    graph = preview(info, camera=camera, makes_movie=False)
    numbers = {"frames": 2, "speed": 4.0, "width": 48, "height": 40}
    for name, more in (("framed", {"camera": ["play", 1]}), ("captured", {"kind": "still", "view": view})):
        graph[f"{name}_path"] = graphs.node(info, "GS4D_CameraPath", scene=["play", 0], **numbers, **more)
        graph[name] = graphs.node(info, "GS4D_Render4DScene", scene=["play", 0], path=[f"{name}_path", 0])
        graph[f"{name}_pictures"] = graphs.node(info, "PreviewImage", images=[name, 0])
    run = running.run(graph)
    framed, captured = (pictures(running, shown(run, f"{n}_pictures")) for n in ("framed", "captured"))
    assert framed.shape == captured.shape == (2, 40, 48, 3)
    assert np.abs(framed - captured).max() <= 1
    assert captured.std() > 10


def pictures(running: Server, output: dict[str, Any]) -> Any:
    paths = [
        Path(running.base) / "temp" / image["subfolder"] / image["filename"] for image in output["images"]
    ]
    return np.stack([np.asarray(Image.open(path).convert("RGB")).astype(int) for path in paths])


def test_a_damaged_camera_is_refused_in_words(running: Server, info: dict[str, Any], scene: Scene4D) -> None:
    for text in ("{", "[1]", '{"position": 3}', '{"position": {"x": 0}}'):
        status, answer = running.post("/prompt", {"prompt": preview(info, camera=text)})
        assert status == 400, text
        assert "camera" in json.dumps(answer)


def test_clips_and_pages_are_exported_for_others(
    running: Server, info: dict[str, Any], scene: Scene4D
) -> None:
    graph = preview(info, compare=True, makes_movie=False)
    for kind in ("clip", "html"):
        more: dict[str, Any] = {"compare": ["other", 0]} if kind == "html" else {"most": 50}
        graph[kind] = graphs.node(
            info,
            "GS4D_Export4DScene",
            scene=["play", 0],
            kind=kind,
            filename_prefix=f"gs4d/shared_{kind}",
            **more,
        )
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    folder = running.base / "output" / "gs4d"
    (clip,), (page,) = folder.glob("shared_clip*.gs4dclip"), folder.glob("shared_html*.html")
    assert len(read_player_file(clip).base) == 50
    assert any("Thinned from 120 to 50 Gaussians" in text for text in run.said)
    assert page.read_text(encoding="utf-8").count("data-clip=") == 2


def test_a_scene_whose_video_cannot_be_made_plays_all_the_same(
    running: Server, info: dict[str, Any], scene: Scene4D
) -> None:
    thin = scene.with_(deformation=_flipbook(scene), rig=ring(3, size=(1, 40)))
    save_scene(thin, running.base / "input" / "thin.safetensors")
    graph = preview(info)
    graph["load"] = graphs.node(info, "GS4D_Load4DScene", scene_file="input/thin.safetensors")
    output = shown(running.run(graph))
    assert len(output["clip"]) == 1 and not output["movie"]
    assert output["notes"] and output["notes"][0].startswith("No small video: ")
