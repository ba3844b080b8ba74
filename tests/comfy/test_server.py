"""The pack in a real ComfyUI: it boots, its nodes are there, a graph runs, cancels and goes on."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from server import FORBIDDEN_IN_LOG, PACK_NAME, Run, Server

from engine.io.scene_file import load_scene

pytestmark = pytest.mark.comfy
ROOT = Path(__file__).resolve().parents[2]
IDS = {
    "GS4D_LoadMultiViewVideo", "GS4D_PreflightCheck", "GS4D_Train4DScene", "GS4D_TrainingSettings", "GS4D_Load4DScene",
    "GS4D_PrepareGPU", "GS4D_CaptureFromVideos",
    "GS4D_Save4DScene", "GS4D_Import4DScene", "GS4D_CameraPath", "GS4D_Render4DScene", "GS4D_EvaluateScene",
    "GS4D_SceneToSplat", "GS4D_SplatToScene", "GS4D_Export4DScene", "GS4D_LoadGuidance", "GS4D_GuidanceFromModel",
    "GS4D_SceneViews", "GS4D_EditViews", "GS4D_LiftMask", "GS4D_FitEdits", "GS4D_RefineScore", "GS4D_EvaluateEdit",
    "GS4D_TrainLatentField", "GS4D_DeltaEdit", "GS4D_DecodeLatents", "GS4D_LatentsToScene",
    "GS4D_Preview4DScene", "GS4D_LoadHead", "GS4D_HeadRegionMask", "GS4D_PoseHead", "GS4D_DriveHead",
    "GS4D_EditHeadAvatar", "GS4D_AnimateSplatWithMesh", "GS4D_HeadFromLandmarks", "GS4D_LoadSegmentation", "GS4D_SegmentByText",
    "GS4D_LoadTrellis", "GS4D_CanonicalFromImage", "GS4D_LoadVariation", "GS4D_VariationDiffusion", "GS4D_AlignSplat",
    "GS4D_EvaluateGeneration",
    "GS4D_EncodeMeshAnimation",
    "GS4D_PrepareVideo",
    "GS4D_LoadVideoClip",
    "GS4D_CameraEmbedding",
    "GS4D_AlignDepth",
    "GS4D_LiftVideo",
    "GS4D_LoadImageTo4D",
    "GS4D_GenerateFromImage",
    "GS4D_CaptureImages",
    "GS4D_AddDepth",
    "GS4D_GradeScene",
    "GS4D_ViewsToSheet",
    "GS4D_SheetToViews",
}  # fmt: skip


@pytest.fixture(scope="session")
def info(running: Server) -> dict[str, Any]:
    return running.get("/object_info")


def test_boots_without_a_complaint_and_registers_every_node(running: Server, info: dict[str, Any]) -> None:
    log = running.log()
    assert not [line for line in log.splitlines() if any(word in line for word in FORBIDDEN_IN_LOG)]
    assert {name for name in info if name.startswith("GS4D_")} == IDS


def test_the_canvas_finds_workflow_help_and_labels(running: Server) -> None:
    names = {path.stem for path in (ROOT / "workflows").glob("*.json")}
    assert {"train_and_render", "instruct_4dgs", "instruct_4dgs_checkpoint"} <= names
    assert names == set(running.get("/workflow_templates")[PACK_NAME])
    for name in names:
        assert running.get(f"/api/workflow_templates/{PACK_NAME}/{name}.json")["nodes"]
        assert running.get_bytes(f"/api/workflow_templates/{PACK_NAME}/{name}.jpg")[:2] == b"\xff\xd8"
    labels = running.get("/i18n")["en"]["nodeDefs"]
    for node in IDS:
        assert labels[node]["display_name"]
        assert running.get_bytes(f"/extensions/{PACK_NAME}/docs/{node}.md").startswith(b"# ")


def test_a_graph_runs_from_capture_to_video(running: Server, info: dict[str, Any]) -> None:
    # a seed and a cache size of its own: another test may have run the same nodes before, and the server would run none
    # of them again
    graph = graphs.train_and_render(info, seed=20)
    graph["load"]["inputs"]["cache_megabytes"] = 528
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    trained = run.progress("train")
    assert trained[-1] == 30 and trained == sorted(trained)
    assert run.progress("render")[-1] == 6
    assert run.previews >= 3, "the nodes showed no preview pictures"
    assert any("Ready to train" in text for text in run.said)
    assert any("PSNR" in text for text in run.said)
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert len(shown["depth"]["images"]) == 6
    # what nodes told stays with the run, beside the pictures that they show
    kept = history(running, run.prompt)["outputs"]
    told = {node: output["gs4d_notes"] for node, output in kept.items() if "gs4d_notes" in output}
    assert told == run.notes and {"load", "check", "train", "save", "path", "render", "measure"} <= set(told)
    assert all(lines and all(isinstance(line, str) for line in lines) for lines in told.values())
    assert (
        told["path"] == ["6 frames, 65×64, 0.25 s", "elevation 27°, as captured"] and kept["train"]["images"]
    )
    video = shown["video"]["images"][0]
    data = running.get_bytes(f"/view?filename={video['filename']}&subfolder={video['subfolder']}&type=output")
    assert data[4:8] == b"ftyp"
    path = running.base / "output" / video["subfolder"] / video["filename"]
    assert size_of_video(path) == (6, 64, 64)
    # what Save Video wrote says its colors, and has the graph as ComfyUI's own videos
    assert b"colrnclx" + bytes([0, 1, 0, 1, 0, 1, 0]) in data
    assert json.loads(metadata_of(path)["prompt"])["video"]["class_type"] == "SaveVideo"


def test_depth_made_of_a_captures_images_is_trained_with(running: Server, info: dict[str, Any]) -> None:
    """An image node of the host stands in for a depth network: dark is far."""
    chosen = {"views": "0 3 6 9", "moments": "0 4"}
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", scale=0.5),
        "images": graphs.node(info, "GS4D_CaptureImages", video=["load", 0], **chosen),
        "depth": graphs.node(info, "ImageInvert", image=["images", 0]),
        "add": graphs.node(info, "GS4D_AddDepth", video=["load", 0], depth=["depth", 0], **chosen),
        "settings": graphs.node(info, "GS4D_TrainingSettings", depth_weight=0.05),
        "train": graphs.node(
            info, "GS4D_Train4DScene", video=["add", 0], settings=["settings", 0], iterations=12, budget=300,
            motion="none", preview_every=0,
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix="deep"),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    assert run.progress("train")[-1] == 12
    assert any("8 images of 80×104: 4 views, 2 frames" in text for text in run.notes["images"])
    assert any("8 depth maps of 80×104 were added, read as disparity" in text for text in run.notes["add"])
    graph["add"]["inputs"]["moments"] = "0"
    refused = running.run(graph)
    assert refused.outcome == "execution_error" and "There are 8 depth maps" in str(refused.error)


def history(running: Server, prompt: str) -> dict[str, Any]:
    """What the server keeps of a run; it writes it down a moment after the run's last message."""
    for _ in range(50):
        kept = running.get(f"/history/{prompt}")
        if prompt in kept:
            return kept[prompt]
        time.sleep(0.1)
    raise AssertionError("the server kept nothing of the run")


def metadata_of(path: Path) -> dict[str, str]:
    """The tags of a video's container."""
    import av

    with av.open(str(path)) as container:
        return dict(container.metadata)


def size_of_video(path: Path) -> tuple[int, int, int]:
    """Frames, width, height."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return len(frames), frames[0].width, frames[0].height


def test_cancel_acts_within_a_second_and_the_next_run_goes_on(running: Server, info: dict[str, Any]) -> None:
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", scale=0.5),
        "train": graphs.node(
            info, "GS4D_Train4DScene", video=["load", 0],
            **{**graphs.QUICK_TRAINING, "iterations": 5000, "preview_every": 0},
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix="gs4d/training stopped"),
    }  # fmt: skip
    stopped: dict[str, float] = {}

    def stop_at(step: int) -> Any:
        def listen(kind: str, data: dict[str, Any], run: Run) -> None:
            if kind == "progress" and data.get("node") == "train" and data["value"] >= step and not stopped:
                stopped["at"] = running.worked()
                running.interrupt()

        return listen

    first = running.run(graph, on_event=stop_at(25))
    waited = running.worked() - stopped["at"]
    assert first.outcome == "execution_interrupted"
    assert waited < 1.5, f"cancel took {waited:.1f} s"
    reached = max(first.progress("train"))
    kept = list((running.base / "output" / "gs4d" / "training").glob("*.safetensors"))
    assert len(kept) == 1 and kept[0].stat().st_size > 10_000
    stopped.clear()
    second = running.run(graph, on_event=stop_at(reached + 10))
    assert second.outcome == "execution_interrupted"
    resumed = [text for text in second.texts if "resumed at step" in text]
    assert resumed and int(resumed[0].split("resumed at step ")[1].split(";")[0]) >= reached
    assert not list((running.base / "output" / "gs4d").glob("training stopped*"))


def test_what_time_stopped_goes_on_when_queued_again(running: Server, info: dict[str, Any]) -> None:
    numbers = {**graphs.QUICK_TRAINING, "iterations": 100_000, "preview_every": 0, "max_seconds": 3}
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", scale=0.5),
        "train": graphs.node(info, "GS4D_Train4DScene", video=["load", 0], **numbers),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix="gs4d/in time"),
    }
    first, second = (running.run(graph, timeout=300) for _ in range(2))
    assert first.outcome == second.outcome == "execution_success", first.error or second.error
    for run in (first, second):
        (note,) = [line for line in run.notes["train"] if line.startswith("stopped after ")]
        assert "of 100000" in note and "run it again to go on" in note
    assert [text for text in second.texts if "resumed at step" in text], "the node runs again"


def test_a_scene_is_saved_loaded_and_exported(running: Server, info: dict[str, Any]) -> None:
    graph = graphs.train_and_render(info)
    kept = {"load": graph["load"], "train": graph["train"]}
    kept["save"] = graphs.node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix="gs4d/again")
    assert running.run(kept).outcome == "execution_success"
    info = running.get("/object_info")
    choices = info["GS4D_Load4DScene"]["input"]["required"]["scene_file"][1]["options"]
    assert choices[0] == "output/gs4d/again_00001_.safetensors"
    assert not any("training" in name for name in choices), "a checkpoint is offered as a scene"
    second = {
        "scene": graphs.node(info, "GS4D_Load4DScene", scene_file=choices[0]),
        "splat": graphs.node(info, "GS4D_SceneToSplat", scene=["scene", 0], times="0,0.5,1"),
        "back": graphs.node(info, "GS4D_SplatToScene", splat=["splat", 0]),
        "restored": graphs.node(info, "GS4D_SplatToScene", splat=["splat", 0], original=["scene", 0]),
        "kept": graphs.node(info, "GS4D_Save4DScene", scene=["restored", 0], filename_prefix="gs4d/restored"),
        "play": graphs.node(info, "GS4D_Preview4DScene", scene=["splat", 0], makes_movie=False),
        "path": graphs.node(info, "GS4D_CameraPath", scene=["back", 0], frames=3, width=64, height=64),
        "render": graphs.node(info, "GS4D_Render4DScene", scene=["back", 0], path=["path", 0]),
        "shown": graphs.node(info, "PreviewImage", images=["render", 0]),
    }
    kinds = info["GS4D_Export4DScene"]["input"]["required"]["kind"][1]["options"]
    for kind in kinds:
        # these need packages that an artist may not have, or a head: see the next tests
        if kind in ("4dgs", "GaussianAvatars folder") or kind.startswith("usd"):
            continue
        second[f"export {kind}"] = graphs.node(
            info, "GS4D_Export4DScene", scene=["scene", 0], kind=kind, filename_prefix=f"gs4d/{kind}"
        )
    run = running.run(second)
    assert run.outcome == "execution_success", run.error
    assert any("3 moments of" in text for text in run.said)
    assert any("motion: flipbook" in text for text in run.said)
    assert any("the cameras' up, +z, is now −y" in text for text in run.said)
    scene, restored = (
        load_scene(running.base / "output" / "gs4d" / f"{name}_00001_.safetensors")
        for name in ("again", "restored")
    )
    assert torch.equal(restored.rig.world_to_camera, scene.rig.world_to_camera)
    assert restored.times.tolist() == [0.0, 0.5, 1.0]
    for seconds in (0.0, 0.5, 1.0):
        assert torch.allclose(restored.at(seconds).means, scene.at(seconds).means, atol=1e-4)
    written = running.base / "output" / "gs4d"
    assert (written / "ply_00001_.ply").read_bytes().startswith(b"ply")
    assert (written / "spz_00001_.spz").read_bytes().startswith(b"\x1f\x8b")
    assert len(list((written / "ply sequence_00001").glob("*.ply"))) == 30
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert len(shown["play"]["clip"]) == 1, "a splat plays without a node in between"
    # thirty frames and their description
    assert len(shown["export ply sequence"]["files"]) == 31
    assert {file["subfolder"] for file in shown["export ply sequence"]["files"]} == {
        "gs4d/ply sequence_00001"
    }


def test_a_head_is_trained_masked_posed_driven_measured_and_exported(
    running: Server, info: dict[str, Any]
) -> None:
    """The demo capture and the bundled head; the exported avatar is imported again."""

    def head(motion: str) -> dict[str, Any]:
        return graphs.node(info, "GS4D_LoadHead", motion=motion)

    driver = running.base / "input" / "driver" / "flame_param.npz"
    driver.parent.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "assets" / "clips" / "talking_head" / "driver" / "flame_param.npz", driver)
    video = graphs.node(info, "GS4D_LoadMultiViewVideo", clip="demo: talking_head", scale=0.5)
    train = {"iterations": 4, "preview_every": 0, "device": "cpu", "video": ["video", 0], "head": ["head", 0]}
    both = {"scene": ["train", 0], "head": ["head", 0]}
    graph = {
        "video": video,
        "head": head("demo: talking_head"),
        "driver": head("input/driver/flame_param.npz"),
        "train": graphs.node(info, "GS4D_Train4DScene", **train),
        "mask": graphs.node(info, "GS4D_HeadRegionMask", **both, part="lips", view_numbers="3", device="cpu"),
        "image": graphs.node(info, "MaskToImage", mask=["mask", 0]),
        "seen": graphs.node(info, "PreviewImage", images=["image", 0]),
        "pose": graphs.node(info, "GS4D_PoseHead", **both, expressions="jawOpen = 0.5", turn=20.0),
        "drive": graphs.node(info, "GS4D_DriveHead", **{**both, "scene": ["pose", 0]}, driver=["driver", 0]),
        "measure": graphs.node(
            info,
            "GS4D_EvaluateEdit",
            **{**both, "original": ["train", 0], "capture": ["video", 0], "driver": ["driver", 0]},
            region=["mask", 1],
            every=12,
            pictures=1,
            device="cpu",
        ),
        "export": graphs.node(
            info,
            "GS4D_Export4DScene",
            scene=["drive", 0],
            kind="GaussianAvatars folder",
            filename_prefix="gs4d/avatar",
        ),
    }
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    assert any("cross-identity" in text and "psnr_mouth" in text for text in run.said)
    assert any("stores no frame rate: 25 frames per second are assumed" in text for text in run.said)
    folder = running.base / "output" / "gs4d" / "avatar_00001"
    assert (folder / "cfg_args").is_file()
    source = {"source": "output/gs4d/avatar_00001", "fps": 12.0}
    save = graphs.node(info, "GS4D_Save4DScene", scene=["scene", 0], filename_prefix="gs4d/imported")
    alone = {"scene": graphs.node(info, "GS4D_Import4DScene", **source), "save": save}
    run = running.run(alone)
    assert run.outcome == "execution_error" and "Connect Load Head" in str(run.error)
    with_head = {**alone, "scene": graphs.node(info, "GS4D_Import4DScene", **source, head=["head", 0])}
    run = running.run({**with_head, "head": head("")})
    assert run.outcome == "execution_success", run.error
    assert any("motion: bound mesh" in text for text in run.said)


@pytest.mark.parametrize(
    ("kind", "package"), [("4dgs", "fourdgs"), *((f"usd{letter}", "usd-core") for letter in "caz")]
)
def test_an_export_that_needs_a_missing_package_names_it(
    running: Server, info: dict[str, Any], kind: str, package: str
) -> None:
    graph = graphs.train_and_render(info)
    kept = {"load": graph["load"], "train": graph["train"]}
    kept["export"] = graphs.node(info, "GS4D_Export4DScene", scene=["train", 0], kind=kind)
    run = running.run(kept)
    if run.outcome == "execution_success":  # this ComfyUI has the package
        assert list((running.base / "output" / "gs4d").glob(f"export_*.{kind}"))
    else:
        assert f"pip install {package}" in run.error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clip": "input/nothing_here"}, "does not exist"),
        ({"clip": "demo: ../../engine"}, "does not ship"),
        ({"folder": "/etc"}, "outside"),
        ({"folder": "input/../../../.."}, "outside"),
        ({"folder": "output"}, ""),
    ],
)
def test_a_capture_that_cannot_be_read_is_one_sentence(
    running: Server, info: dict[str, Any], change: dict[str, str], said: str
) -> None:
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", **change),
        "check": graphs.node(info, "GS4D_PreflightCheck", video=["load", 0]),
    }
    (running.base / "output").mkdir(exist_ok=True)
    status, body = running.post("/prompt", {"prompt": graph, "client_id": "x"})
    if said:
        assert status == 400
        (sentence,) = {
            problem["details"].split(" - ", 1)[1] for problem in body["node_errors"]["load"]["errors"]
        }
        assert said in sentence
        assert sentence.startswith("or folder: " if "folder" in change else "capture: ")
    else:  # found only when it is opened
        run = running.run(graph)
        assert run.outcome == "execution_error"
        assert "not recognized" in run.error and "Traceback" not in run.error


@pytest.mark.parametrize("prefix", ["../outside", "/tmp/outside", "", "gs4d/../../outside", "gs4d/"])
def test_nothing_is_written_outside_the_output_folder(
    running: Server, info: dict[str, Any], prefix: str
) -> None:
    graph = graphs.train_and_render(info)
    kept = {"load": graph["load"], "train": graph["train"]}
    for kind in ("GS4D_Save4DScene", "GS4D_Export4DScene"):
        kept[kind] = graphs.node(info, kind, scene=["train", 0], filename_prefix=prefix)
    status, body = running.post("/prompt", {"prompt": kept, "client_id": "x"})
    assert status == 400 and {"GS4D_Save4DScene", "GS4D_Export4DScene"} <= set(body["node_errors"])
    assert not list(running.base.parent.glob("outside*"))


def test_cuda_where_there_is_none_is_one_sentence(running: Server, info: dict[str, Any]) -> None:
    graph = graphs.train_and_render(info, device="cuda")
    run = running.run({name: graph[name] for name in ("load", "train", "save")})
    assert run.outcome == "execution_error"
    assert "choose auto or cpu" in run.error


def test_an_output_that_was_not_asked_for_says_how_to_get_it(running: Server, info: dict[str, Any]) -> None:
    graph = graphs.train_and_render(info)
    graph["render"]["inputs"]["wants_depth"] = False
    run = running.run({name: graph[name] for name in ("load", "train", "path", "render", "depth")})
    assert run.outcome == "execution_error" and "render depth" in run.error


def test_a_capture_put_into_the_input_folder_is_offered(running: Server) -> None:
    shutil.copytree(ROOT / "assets" / "clips" / "walker", running.base / "input" / "mine" / "take 1")
    options = running.get("/object_info/GS4D_LoadMultiViewVideo")["GS4D_LoadMultiViewVideo"]["input"][
        "required"
    ]
    assert "input/mine/take 1" in options["clip"][1]["options"]


def test_loading_again_notices_a_changed_file(running: Server, info: dict[str, Any]) -> None:
    folder = running.base / "input" / "changing"
    shutil.copytree(ROOT / "assets" / "clips" / "walker", folder)
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", clip="input/changing"),
        "check": graphs.node(info, "GS4D_PreflightCheck", video=["load", 0], moments=1),
    }
    first, same = running.run(graph), running.run(graph)
    assert "load" not in {d["node"] for d in same.of("executing") if d.get("node")}, (
        "ran again without a change"
    )
    (folder / "cameras.json").touch()
    changed = running.run(graph)
    assert first.outcome == changed.outcome == "execution_success"
    assert "load" in {d["node"] for d in changed.of("executing") if d.get("node")}


def test_comfyuis_own_splat_nodes_take_our_scenes_and_give_theirs(
    running: Server, info: dict[str, Any]
) -> None:
    if "RenderSplat" not in info:
        pytest.skip("this ComfyUI has no splat nodes (they came after 0.3.75)")
    graph = graphs.train_and_render(info)
    kept = {
        "load": graph["load"],
        "train": graph["train"],
        "splat": graphs.node(info, "GS4D_SceneToSplat", scene=["train", 0], times="0,1,2"),
        "theirs": graphs.node(info, "RenderSplat", splat=["splat", 0], width=96, height=96),
        "pictures": graphs.node(info, "SaveImage", images=["theirs", 0], filename_prefix="theirs"),
        "same": graphs.node(
            info, "RenderSplat", splat=["splat", 0], width=96, height=96, camera_info=["camera", 0],
            background="#ffffff", sharpen=1.0,
        ),
        "framed": graphs.node(info, "SaveImage", images=["same", 0], filename_prefix="framed"),
        "camera": graphs.node(info, "CreateCameraInfo"),
        "path": graphs.node(
            info, "GS4D_CameraPath", scene=["back", 0], camera=["camera", 0], frames=2, width=96, height=96
        ),
        "back": graphs.node(info, "GS4D_SplatToScene", splat=["splat", 0], original=["train", 0]),
        "file": graphs.node(info, "SplatToFile3D", splat=["splat", 0], format="ply"),
        "read": graphs.node(info, "File3DToSplat", model_3d=["file", 0]),
        "restored": graphs.node(info, "GS4D_SplatToScene", splat=["read", 0], original=["train", 0]),
        "written": graphs.node(info, "GS4D_Save4DScene", scene=["restored", 0], filename_prefix="gs4d/from_file"),
        "trained": graphs.node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix="gs4d/trained"),
        "render": graphs.node(info, "GS4D_Render4DScene", scene=["back", 0], path=["path", 0]),
        "ours": graphs.node(info, "SaveImage", images=["render", 0], filename_prefix="ours"),
    }  # fmt: skip
    orbit = {"mode": "orbit", "mode.yaw": 35.0, "mode.pitch": 10.0, "mode.distance": 4.0}
    kept["camera"]["inputs"].update(orbit)
    run = running.run(kept)
    assert run.outcome == "execution_success", run.error
    theirs = sorted((running.base / "output").glob("theirs_*.png"))
    assert len(theirs) == 3, "one picture for each moment"
    for path in theirs:
        assert picture(path).std() > 10, "the picture is empty"
    # the same camera on the same moment: what was framed in ComfyUI's nodes is what ours show
    framed = picture(next((running.base / "output").glob("framed_00001*.png")))
    ours = picture(next((running.base / "output").glob("ours_00001*.png")))
    likeness = np.corrcoef(framed.ravel(), ours.ravel())[0, 1]
    assert likeness > 0.95, likeness
    # a file does not say how it stands
    assert any("taken for upright and turned back" in text for text in run.said)
    folder = running.base / "output" / "gs4d"
    restored, trained = (
        load_scene(folder / f"{name}_00001_.safetensors") for name in ("from_file", "trained")
    )
    assert torch.equal(restored.rig.world_to_camera, trained.rig.world_to_camera)
    assert torch.equal(restored.times, trained.times)
    first, wanted = restored.at(0.0), trained.at(0.0)
    assert torch.allclose(first.means, wanted.means, atol=1e-4) and torch.allclose(
        first.sh, wanted.sh, atol=1e-4
    )


def picture(path: Path) -> np.ndarray:
    """Gray values [H, W]."""
    from PIL import Image

    return np.asarray(Image.open(path).convert("L"), dtype=float)
