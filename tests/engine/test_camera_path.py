"""Camera paths: they look at the subject, keep the captured scale, and let time run as asked."""

import math

import pytest
import torch

from engine.errors import InputError
from engine.render.camera_paths import FramedView
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


def test_a_framed_view_replaces_the_path_and_is_centered(scene):
    pose = scene.rig.world_to_camera[2].double()
    config = camera_path.Config(frames=3, width=64, height=48)
    path = camera_path.make(scene, config, FramedView(pose, fov=40.0, zoom=2.0))
    assert torch.equal(path.cameras.world_to_camera, pose.expand(3, 4, 4))
    focal = 2 * 24 / math.tan(math.radians(20))
    expected = torch.tensor([[focal, 0, 32], [0, focal, 24], [0, 0, 1]], dtype=torch.float64)
    assert torch.allclose(path.cameras.K, expected.expand(3, 3, 3))


def test_a_view_that_does_not_exist_is_refused(scene):
    with pytest.raises(InputError, match="8 cameras"):
        camera_path.make(scene, camera_path.Config(view=8))


def test_a_number_outside_its_range_is_named():
    with pytest.raises(InputError, match="frames is 0"):
        camera_path.Config(frames=0)
    with pytest.raises(InputError, match="kind is 'loop'"):
        camera_path.Config(kind="loop")
