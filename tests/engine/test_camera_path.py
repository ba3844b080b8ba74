"""Camera paths: they look at the subject, keep the captured scale, and let time run as asked."""

import math

import pytest
import torch

from engine.errors import InputError
from engine.render.camera_moves import MOVES
from engine.render.camera_paths import FramedView, scene_focus
from engine.scene import plucker_rays, relative_to_first
from engine.scene.rigs import rig_up
from engine.steps import camera_embedding, camera_path
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


def test_the_elevation_that_as_captured_stands_for_is_said(scene):
    path = camera_path.make(scene, camera_path.Config(frames=3))
    degrees = int(camera_path.summary(path).partition("elevation ")[2].partition("°, as captured")[0])
    same = camera_path.make(scene, camera_path.Config(frames=3, elevation=float(degrees)))
    apart = (path.cameras.centers - same.cameras.centers).norm(dim=-1)
    assert apart.max() < 0.02 * (path.cameras.centers[0] - scene_focus(scene)).norm()
    assert "elevation" not in camera_path.summary(same)


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
    with pytest.raises(InputError, match="no scene is connected, so there is one view; choose 0"):
        camera_path.make(None, camera_path.Config(view=1))


def test_a_number_outside_its_range_is_named():
    with pytest.raises(InputError, match="frames is 0"):
        camera_path.Config(frames=0)
    with pytest.raises(InputError, match="kind is 'loop'"):
        camera_path.Config(kind="loop")


@pytest.mark.parametrize("kind", MOVES)
def test_a_named_movement_starts_at_its_view_and_stays_rigid(scene, kind):
    path = camera_path.make(scene, camera_path.Config(kind=kind, frames=9, view=3))
    poses = path.cameras.world_to_camera
    assert torch.allclose(poses[0], scene.rig.world_to_camera[3].double(), atol=1e-12)
    assert torch.allclose(path.cameras.K[0], scene.rig.K[3].double())
    rotation = poses[:, :3, :3]
    assert torch.allclose(
        rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(9, 3, 3), atol=1e-9
    )
    assert float((poses[8] - poses[0]).abs().max()) > 1e-4
    still = camera_path.make(scene, camera_path.Config(kind=kind, frames=9, view=3, amount=0.0))
    assert torch.allclose(still.cameras.world_to_camera, poses[:1].expand(9, 4, 4), atol=1e-9)


def test_named_movements_go_where_they_say():
    """Without a scene the first camera is the identity: x is right, y is down, z is forward."""

    def end(kind, amount=1.0):
        path = camera_path.make(None, camera_path.Config(kind=kind, frames=5, amount=amount))
        return path.cameras.centers[-1], path.cameras.forward[-1], path.cameras.camera_to_world[-1, :3, 0]

    sine, cosine = math.sin(math.radians(30)), math.cos(math.radians(30))
    origin = torch.zeros(3).double()
    for kind, forward in (
        ("pan left", (-sine, 0, cosine)),
        ("pan right", (sine, 0, cosine)),
        ("tilt up", (0, -sine, cosine)),
        ("tilt down", (0, sine, cosine)),
    ):
        center, looks, _ = end(kind)
        assert torch.allclose(center, origin) and torch.allclose(looks, torch.tensor(forward).double())
    assert torch.allclose(end("roll right")[2], torch.tensor([cosine, sine, 0]).double())
    for kind, place in (
        ("truck left", (-0.5, 0, 0)),
        ("truck right", (0.5, 0, 0)),
        ("pedestal up", (0, -0.5, 0)),
        ("pedestal down", (0, 0.5, 0)),
        ("dolly in", (0, 0, 0.5)),
        ("dolly out", (0, 0, -0.5)),
        ("arc right", (sine, 0, 1 - cosine)),
        ("arc left", (-sine, 0, 1 - cosine)),
    ):
        assert torch.allclose(end(kind)[0], torch.tensor(place).double(), atol=1e-12), kind
    # never through the subject, which is at a distance of 1
    assert 0.99 < float(end("dolly in", 10.0)[0][2]) < 1


def test_an_arc_keeps_its_distance_and_height_and_a_pan_stays_level(scene):
    up, focus = rig_up(scene.rig), scene_focus(scene)
    arc = camera_path.make(scene, camera_path.Config(kind="arc left", frames=6, amount=3.0)).cameras
    distances = (arc.centers - focus).norm(dim=-1)
    assert torch.allclose(distances, distances[:1].expand(6))
    assert torch.allclose(arc.centers @ up, (arc.centers[:1] @ up).expand(6))
    # the sides of the image stay as level as they were
    pan = camera_path.make(scene, camera_path.Config(kind="pan right", frames=6, amount=2.0)).cameras
    level = pan.camera_to_world[:, :3, 0] @ up
    assert torch.allclose(level, level[:1].expand(6), atol=1e-9)


def test_a_handheld_camera_sways_a_little_and_in_time(scene):
    def centers(fps, frames):
        config = camera_path.Config(kind="handheld", frames=frames, fps=fps)
        return camera_path.make(scene, config).cameras.centers

    distance = float((scene.rig.centers[0] - scene_focus(scene)).norm())
    sway = (centers(24.0, 96) - centers(24.0, 96)[0]).norm(dim=-1).max()
    assert 0.002 < float(sway) / distance < 0.03
    assert torch.allclose(centers(48.0, 21)[::2], centers(24.0, 11), atol=1e-9)


def test_a_movement_starts_at_a_framed_view(scene):
    pose = scene.rig.world_to_camera[5].double()
    config = camera_path.Config(kind="truck right", frames=4, width=64, height=48)
    path = camera_path.make(scene, config, FramedView(pose, fov=40.0))
    assert torch.allclose(path.cameras.world_to_camera[0], pose, atol=1e-12)
    moved = path.cameras.centers[3] - path.cameras.centers[0]
    assert torch.allclose(torch.nn.functional.normalize(moved, dim=0), pose[0, :3])


@pytest.mark.parametrize("frames, made", [(1, 1), (2, 1), (4, 5), (49, 49), (51, 49), (52, 53), (60, 61)])
def test_frames_are_rounded_to_what_video_models_make(frames, made):
    path = camera_path.make(None, camera_path.Config(frames=frames, fits_video_model=True))
    assert len(path) == len(path.seconds) == made


def test_the_embedding_holds_the_rays_four_frames_to_a_latent_frame(scene):
    path = camera_path.make(scene, camera_path.Config(kind="arc left", frames=9, width=48, height=32))
    made = camera_embedding.make(path)
    assert (made.width, made.height, made.frames) == (48, 32, 9) and made.rays.shape == (1, 24, 3, 32, 48)
    unit = float((path.cameras.centers[0] - path.focus).norm())
    rays = plucker_rays(relative_to_first(path.cameras, unit)).float()
    split = made.rays[0].unflatten(0, (6, 4))
    # the first latent frame repeats frame 0, later ones hold four frames each
    for frame, (latent, slot) in {0: (0, 2), 1: (1, 0), 6: (2, 1), 8: (2, 3)}.items():
        assert torch.equal(split[:, slot, latent].permute(1, 2, 0), rays[frame])
    # the subject's distance is the unit, so the world's unit plays no part; a larger unit weakens the movement
    weak = camera_embedding.make(path, camera_embedding.Config(unit=10 * unit)).rays[0].unflatten(0, (6, 4))
    assert torch.allclose(weak[:3] * 10, split[:3], atol=1e-5) and torch.equal(weak[3:], split[3:])


def test_the_unit_of_the_embedding_is_said(scene):
    path = camera_path.make(scene, camera_path.Config(frames=9, width=48, height=32))
    distance = float((path.cameras.centers[0] - path.focus).norm())
    assert f"unit length: {distance:.4g} (distance from" in camera_embedding.make(path).note
    given = camera_path.with_cameras(path.cameras, path.seconds, 24.0)
    made = camera_embedding.make(given)
    assert "unit length: 1 (the path has no subject" in made.note
    assert torch.equal(made.rays, camera_embedding.make(path, camera_embedding.Config(unit=1.0)).rays)


def test_a_path_that_wan_cannot_take_is_refused_with_what_it_can(scene):
    with pytest.raises(InputError, match="57 or 61"):
        camera_embedding.make(camera_path.make(scene, camera_path.Config(frames=60, width=32, height=32)))
    with pytest.raises(InputError, match="set 48×32"):
        camera_embedding.make(camera_path.make(scene, camera_path.Config(frames=5, width=50, height=30)))
