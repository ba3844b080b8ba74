"""Camera paths: they look at the subject, keep the captured scale, and let time run as asked."""

import math

import pytest
import torch

from engine.errors import InputError
from engine.steps import camera_path
from tests.scenes import moving_scene


@pytest.fixture(scope="module")
def scene():
    return moving_scene()


@pytest.mark.parametrize("kind", ["orbit", "spiral", "rig", "still"])
def test_every_kind_keeps_the_subject_in_the_picture(scene, kind):
    path = camera_path.make(scene, camera_path.Config(kind=kind, frames=24))
    assert len(path) == 24 and len(path.seconds) == 24
    rotation = path.cameras.world_to_camera[:, :3, :3]
    assert torch.allclose(
        rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(24, 3, 3), atol=1e-9
    )
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(24).double())
    for i in range(24):
        pixel, depth = path.cameras.project(torch.zeros(1, 3, dtype=torch.float64), i)
        w, h = path.cameras.sizes[i]
        assert 0 < pixel[0, 0] < w and 0 < pixel[0, 1] < h and depth[0] > 0


def test_an_orbit_stays_level_and_comes_round(scene):
    path = camera_path.make(scene, camera_path.Config(frames=36, elevation=20.0))
    centers = path.cameras.centers
    assert torch.allclose(centers[:, 2], centers[0, 2].expand(36), atol=1e-6)
    radius = centers.norm(dim=-1)
    assert torch.allclose(radius, radius[0].expand(36), rtol=0.05)
    assert float(centers[0] @ centers[18]) < 0, "half way round is on the other side"


def test_rig_path_starts_at_a_captured_camera(scene):
    path = camera_path.make(scene, camera_path.Config(kind="rig", frames=15))
    assert torch.allclose(path.cameras.world_to_camera[0], scene.rig.world_to_camera[0], atol=1e-9)


def test_time_runs_loops_slows_and_freezes(scene):
    length = scene.duration
    config = camera_path.Config(frames=100, fps=25.0)
    seconds = camera_path.make(scene, config).seconds
    assert seconds[1] - seconds[0] == pytest.approx(0.04)
    assert float(seconds.max()) <= length + 1e-9 and float(seconds.min()) >= 0
    slow = camera_path.make(scene, camera_path.Config(frames=10, fps=25.0, speed=0.5)).seconds
    assert slow[1] - slow[0] == pytest.approx(0.02)
    frozen = camera_path.make(scene, camera_path.Config(frames=10, speed=0.0, start_seconds=0.7)).seconds
    assert torch.allclose(frozen, torch.full((10,), 0.7).double())


def test_load3d_camera_frames_the_shot(scene):
    view = {"position": {"x": 0, "y": 0.5, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 40}
    path = camera_path.make(scene, camera_path.Config(frames=3, width=64, height=48), view)
    # ComfyUI shows splats turned by half a turn about x; its view is undone, so that what was framed is what is seen
    assert torch.allclose(path.cameras.centers[0], torch.tensor([0, -0.5, -4.0]).double())
    assert float(path.cameras.K[0, 1, 1]) == pytest.approx(24 / math.tan(math.radians(20)))
    pixel, _ = path.cameras.project(torch.zeros(1, 3).double(), 0)
    assert torch.allclose(pixel[0], torch.tensor([32.0, 24.0]).double())


def test_a_load3d_quaternion_says_the_same_as_its_target_and_can_roll(scene):
    def pose(**more):
        view = {"position": {"x": 0, "y": 0, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}, **more}
        return camera_path.make(scene, camera_path.Config(frames=1), view).cameras.world_to_camera[0]

    plain = pose()
    assert torch.allclose(pose(quaternion={"x": 0, "y": 0, "z": 0, "w": 1}), plain)
    half = math.sqrt(0.5)
    rolled = pose(quaternion={"x": 0, "y": 0, "z": half, "w": half})
    assert torch.allclose(rolled[2], plain[2])  # looks the same way
    # a camera rolled to the left sees its picture turned to the right
    assert torch.allclose(rolled[0, :3], -plain[1, :3]) and torch.allclose(rolled[1, :3], plain[0, :3])


@pytest.mark.parametrize("camera", [{}, {"position": {"x": 0}}, {"position": None, "target": None}])
def test_a_load3d_camera_without_a_position_is_refused(scene, camera):
    with pytest.raises(InputError, match="position or target"):
        camera_path.make(scene, camera_path.Config(), camera)


def test_a_view_that_does_not_exist_is_refused(scene):
    with pytest.raises(InputError, match="8 cameras"):
        camera_path.make(scene, camera_path.Config(view=8))


def test_a_number_outside_its_range_is_named():
    with pytest.raises(InputError, match="frames is 0"):
        camera_path.Config(frames=0)
    with pytest.raises(InputError, match="kind is 'loop'"):
        camera_path.Config(kind="loop")
