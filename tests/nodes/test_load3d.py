"""ComfyUI's LOAD3D_CAMERA and the engine's framed view are the same camera."""

import json
import math
from dataclasses import replace

import pytest
import torch

from engine.errors import InputError
from engine.scene.rigs import upright_turn
from engine.steps import camera_path
from tests.pack_modules import pack_module
from tests.scenes import moving_scene

load3d = pack_module("load3d")
from_load3d, framed_view = load3d.from_load3d, load3d.framed_view
read_load3d, to_load3d, path_to_load3d = load3d.read_load3d, load3d.to_load3d, load3d.path_to_load3d


@pytest.fixture(scope="module")
def scene():
    return moving_scene()


def test_load3d_camera_frames_the_shot(scene):
    view = {"position": {"x": 0, "y": 0.5, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 40}
    config = camera_path.Config(frames=3, width=64, height=48, camera_orientation="as stored")
    path = camera_path.make(scene, config, from_load3d(view))
    # ComfyUI shows splats turned by half a turn about x; its view is undone, so that what was framed is what is seen
    assert torch.allclose(path.cameras.centers[0], torch.tensor([0, -0.5, -4.0]).double())
    assert float(path.cameras.K[0, 1, 1]) == pytest.approx(24 / math.tan(math.radians(20)))
    pixel, _ = path.cameras.project(torch.zeros(1, 3).double(), 0)
    assert torch.allclose(pixel[0], torch.tensor([32.0, 24.0]).double())


def test_a_load3d_quaternion_says_the_same_as_its_target_and_can_roll():
    def pose(**more):
        view = {"position": {"x": 0, "y": 0, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}, **more}
        return framed_view(view).world_to_camera

    plain = pose()
    assert torch.allclose(pose(quaternion={"x": 0, "y": 0, "z": 0, "w": 1}), plain)
    half = math.sqrt(0.5)
    rolled = pose(quaternion={"x": 0, "y": 0, "z": half, "w": half})
    assert torch.allclose(rolled[2], plain[2])  # looks the same way
    # a camera rolled to the left sees its picture turned to the right
    assert torch.allclose(rolled[0, :3], -plain[1, :3]) and torch.allclose(rolled[1, :3], plain[0, :3])


@pytest.mark.parametrize("camera", [{}, {"position": {"x": 0}}, {"position": None, "target": None}])
def test_a_load3d_camera_without_a_position_is_refused(camera):
    with pytest.raises(InputError, match="position or target"):
        from_load3d(camera)


@pytest.mark.parametrize(
    "changed", [{"fov": 180}, {"zoom": -1}, {"position": {"x": math.nan, "y": 0, "z": 1}}]
)
def test_a_load3d_camera_with_impossible_numbers_is_refused(changed):
    view = {"position": {"x": 0, "y": 0, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}}
    with pytest.raises(InputError, match="field of view"):
        from_load3d({**view, **changed})


@pytest.mark.parametrize("view", [0, 3])
def test_a_captured_camera_comes_back_from_load3d(scene, view):
    rig = scene.rig
    framed = framed_view(json.loads(json.dumps(to_load3d(rig, view, torch.zeros(3)))))
    assert torch.allclose(framed.world_to_camera, rig.world_to_camera[view].double(), atol=1e-9)
    assert float(framed.intrinsics(*rig.sizes[view])[1, 1]) == pytest.approx(float(rig.K[view, 1, 1]))


def test_the_players_text_is_read_and_what_is_no_camera_is_refused(scene):
    given = to_load3d(scene.rig, 1, torch.zeros(3))
    assert read_load3d(json.dumps(given)) == given and read_load3d("  ") is None
    for text, words in (
        ("{", "not valid JSON"),
        ("[1]", "does not describe a camera"),
        ("{}", "position or target"),
    ):
        with pytest.raises(InputError, match=words):
            read_load3d(text)


def test_a_list_of_cameras_is_a_path(scene):
    rig = scene.rig
    turn = upright_turn(rig)
    given = json.loads(json.dumps([to_load3d(rig, view, torch.zeros(3), turn) for view in range(4)]))
    w, h = rig.sizes[0]
    path = camera_path.make(scene, camera_path.Config(frames=4, width=w, height=h), from_load3d(given))
    assert torch.allclose(path.cameras.world_to_camera, rig.world_to_camera[:4].double(), atol=1e-9)
    given[2]["fov"] = 20.0
    longer = camera_path.make(
        scene, camera_path.Config(frames=7, width=w, height=h), from_load3d(given)
    ).cameras
    assert torch.allclose(longer.world_to_camera[::2], rig.world_to_camera[:4].double(), atol=1e-9)
    assert torch.allclose(longer.centers[3], rig.centers[1:3].mean(0).double(), atol=1e-9)
    assert (
        torch.allclose(longer.K[3], (longer.K[2] + longer.K[4]) / 2) and longer.K[4, 1, 1] > longer.K[2, 1, 1]
    )


def test_a_wrong_camera_of_a_list_is_named(scene):
    good = to_load3d(scene.rig, 0, torch.zeros(3))
    with pytest.raises(InputError, match="camera 1 of the list lacks position"):
        from_load3d([good, {"target": good["target"]}])
    with pytest.raises(InputError, match="camera 1 of the list has a field of view"):
        from_load3d([good, {**good, "fov": 200}])
    with pytest.raises(InputError, match="empty"):
        from_load3d([])
    with pytest.raises(InputError, match="position or target"):
        from_load3d(["camera"])


@pytest.mark.parametrize("with_focus", [True, False])
def test_a_path_comes_back_from_its_list_of_cameras(scene, with_focus):
    config = camera_path.Config(kind="arc right", frames=6, width=64, height=48)
    path = camera_path.make(scene, config)
    given = path if with_focus else replace(path, focus=None)
    cameras = json.loads(json.dumps(path_to_load3d(given)))
    back = camera_path.make(scene, config, from_load3d(cameras))
    assert torch.allclose(back.cameras.world_to_camera, path.cameras.world_to_camera, atol=1e-9)
    assert torch.allclose(back.cameras.K[:, 1, 1], path.cameras.K[:, 1, 1])
