"""A splat that a video animates in a real ComfyUI, as scene and as SPLAT, and its measures. Random weights."""

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
    from tiny_variation import ball, save_variation

    from engine.io.scene_file import save_scene
    from engine.steps import splat_to_scene

    save_variation(running.base / "models" / "gs4d" / "deeper" / "tiny-variation")
    scene = splat_to_scene.make([ball()], splat_to_scene.Config(up="z up"))
    place = running.base / "output" / "gs4d" / "ball.safetensors"
    place.parent.mkdir(parents=True, exist_ok=True)
    save_scene(scene.with_(rig=scene.rig.scaled(0.125)), place)
    return running.get("/object_info")


def animated(info: dict[str, Any], by: str, **changed: Any) -> dict[str, Any]:
    return {
        "image": graphs.node(info, "EmptyImage", width=64, height=64, color=0x4080C0),
        "frames": graphs.node(info, "RepeatImageBatch", image=["image", 0], amount=9),
        "nothing": graphs.node(info, "SolidMask", value=0.0, width=64, height=64),
        "square": graphs.node(info, "SolidMask", value=1.0, width=24, height=24),
        "mask": graphs.node(
            info, "MaskComposite", destination=["nothing", 0], source=["square", 0], x=20, y=20, operation="add"
        ),
        "models": graphs.node(info, "GS4D_LoadVariation", model="deeper/tiny-variation", device="cpu"),
        "scene": graphs.node(info, "GS4D_Load4DScene", scene_file="output/gs4d/ball.safetensors"),
        "splat": graphs.node(info, "GS4D_SceneToSplat", scene=["scene", 0]),
        "animate": graphs.node(
            info, "GS4D_VariationDiffusion", models=["models", 0], splat=[by, 0], images=["frames", 0],
            mask=["mask", 0], preview_every=1, **changed,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("by", ["scene", "splat"])
def test_a_splat_is_animated_and_measured(running: Server, info: dict[str, Any], by: str) -> None:
    graph = {
        **animated(info, by),
        "measure": graphs.node(
            info, "GS4D_EvaluateGeneration", scene=["animate", 0], images=["frames", 0], clip_length=4, clip_stride=1
        ),
        "seen": graphs.node(info, "PreviewImage", images=["animate", 1]),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["animate", 0], filename_prefix=f"gs4d/animated_{by}"),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert any("200 Gaussians, 9 frames" in line for line in shown["animate"]["gs4d_notes"])
    assert len(shown["animate"]["images"]) == 1 and len(shown["seen"]["images"]) == 9
    assert run.progress("animate")[-1] == 9 + 3 + 9
    measured = "\n".join(shown["measure"]["gs4d_notes"])
    assert "psnr" in measured and "frechet (stand-in: pooled pixels)" in measured and "fvd" not in measured


def test_a_setting_that_does_not_fit_is_one_sentence(running: Server, info: dict[str, Any]) -> None:
    graph = animated(info, "scene", window=4, overlap=3)
    graph["save"] = graphs.node(info, "GS4D_Save4DScene", scene=["animate", 0])
    run = running.run(graph)
    assert run.outcome == "execution_error" and "GS4D-DIF-070" in run.error


def test_a_video_comes_from_what_ships_from_a_file_or_from_another_node(
    running: Server, info: dict[str, Any]
) -> None:
    clip = graphs.node(info, "GS4D_LoadVideoClip")
    assert clip["inputs"]["clip"] == "demo: toy.mp4"
    graph = {
        "clip": clip,
        "core": graphs.node(info, "CreateVideo", images=["clip", 0], fps=4.0),
        "other": graphs.node(info, "GS4D_LoadVideoClip", video=["core", 0]),
        "some": graphs.node(
            info,
            "GS4D_PrepareVideo",
            images=["other", 0],
            frames_per_second=["other", 1],
            size=64,
            frame_step=2,
        ),
        "seen": graphs.node(info, "PreviewImage", images=["some", 0]),
    }
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert shown["clip"]["gs4d_notes"] == ["16 frames of 256×256 at 8 per second"]
    assert shown["other"]["gs4d_notes"] == ["16 frames of 256×256 at 4 per second"]
    assert len(shown["seen"]["images"]) == 8


@pytest.mark.parametrize(
    ("name", "code"),
    [("../outside.mp4", "NOD-013"), ("demo: nothing.mp4", "NOD-054"), ("input/gone.mp4", "NOD-014")],
)
def test_a_video_that_is_missing_or_outside_is_refused(
    running: Server, info: dict[str, Any], name: str, code: str
) -> None:
    clip = graphs.node(info, "GS4D_LoadVideoClip")
    clip["inputs"]["clip"] = name
    graph = {"clip": clip, "seen": graphs.node(info, "PreviewImage", images=["clip", 0])}
    status, body = running.post("/prompt", {"prompt": graph})
    assert status == 400 and code in str(body["node_errors"]["clip"])
