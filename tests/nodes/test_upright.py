"""Up is up in ComfyUI's 3D nodes (y down in splats, y up in cameras), whatever is up in the scene, and comes back as it was."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.geometry.placement import turned
from engine.geometry.upright import SampledFrom, Splats
from engine.messages import result
from engine.render import choose, render_gaussians
from engine.scene import ActivatedGaussians, Cameras, Gaussians, Scene4D, rotations
from engine.scene.cameras import look_at
from engine.scene.rigs import found_up, is_unturned, rig_up, up_in_words, upright_turn
from engine.steps import camera_path, render_scene, sample_scene, splat_to_scene
from tests.pack_modules import pack_module
from tests.scenes import moving_scene

load3d = pack_module("load3d")

# up axes of scenes: as demos and heads have them, as ComfyUI has it, and as COLMAP might
UPS = {
    "z up": (0.0, 0.0, 1.0),
    "y up": (0.0, 1.0, 0.0),
    "y down": (0.0, -1.0, 0.0),
    "z down": (0.0, 0.0, -1.0),
    "x up": (1.0, 0.0, 0.0),
    "tilted": (0.48, 0.64, -0.6),
    "almost y up": (0.02, 0.9997, 0.014),
}
SIZE = (48, 40)


def turn_from_z(up: tuple[float, float, float]) -> Tensor:
    """A rotation [3, 3] that takes z to `up`, with a heading of its own."""
    z = torch.nn.functional.normalize(torch.tensor(up, dtype=torch.float64), dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.3, 0.9, 0.31]).double(), z), dim=0)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=1)


class Turned:
    """A motion in axes that were turned by `turn`."""

    kind = "turned"

    def __init__(self, motion: Any, turn: Tensor) -> None:
        self.motion, self.turn = motion, turn

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        return turned(self.motion.deform(turned(gaussians, self.turn.T), seconds), self.turn)

    def to(self, device: torch.device | str) -> Turned:
        return self


def scene_with(up: tuple[float, float, float]) -> Scene4D:
    """The moving scene with z up, with view-dependent colors, in a world in which `up` is up."""
    scene, turn = moving_scene(count=60, views=6, sh_degree=3), turn_from_z(up)
    generator = torch.Generator().manual_seed(3)
    sh = scene.canonical.sh.clone()
    sh[:, 1:] = 0.15 * torch.randn(sh[:, 1:].shape, generator=generator)
    poses = scene.rig.world_to_camera.double().clone()
    poses[:, :3, :3] = poses[:, :3, :3] @ turn.T
    return scene.with_(
        canonical=turned(scene.canonical.with_(sh=sh), turn),
        deformation=Turned(scene.deformation, turn),
        rig=replace(scene.rig, world_to_camera=poses),
        background=torch.tensor([0.2, 0.3, 0.4]),
    )


@pytest.fixture(params=UPS, scope="module")
def scene(request: pytest.FixtureRequest) -> Scene4D:
    return scene_with(UPS[request.param])


def splats_of(samples: dict[str, Tensor], knows: bool = True) -> Splats:
    """What arrives at a node from ComfyUI's SPLAT; `knows`: with what the splat says about its scene."""
    moments = [
        Gaussians.from_activated(ActivatedGaussians(*parts))
        for parts in zip(*(samples[k] for k in ("means", "quats", "scales", "opacities", "sh")), strict=True)
    ]
    return Splats(moments, SampledFrom(samples["times"], samples.get("turn")) if knows else None)


def assert_same(got: Gaussians, wanted: Gaussians) -> None:
    a, b = got.activated(), wanted.activated()
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.allclose(getattr(a, name), getattr(b, name), atol=2e-5), name
    axes = rotations.quats_to_matrices(a.quats), rotations.quats_to_matrices(b.quats)
    assert torch.allclose(*axes, atol=2e-5)


def test_what_is_high_in_the_scene_is_high_in_comfyui(scene: Scene4D) -> None:
    samples = sample_scene.run(scene)
    up = rig_up(scene.rig)
    for i, seconds in enumerate(samples["times"].tolist()):
        # ComfyUI's splats have y down
        assert torch.allclose(
            -samples["means"][i, :, 1].double(), scene.at(seconds).means.double() @ up, atol=1e-5
        )
    if not is_unturned(samples["turn"]):
        assert f"the cameras' up, {up_in_words(up)}, is now −y" in sample_scene.summary(samples)


@pytest.mark.parametrize("with_quaternion", [True, False])
def test_a_camera_aimed_in_comfyui_renders_the_same_there_and_here(
    scene: Scene4D, with_quaternion: bool
) -> None:
    """As a node of ComfyUI looks at the splat: x right, y up, z back there are x, −y, −z of the splat."""
    position, target = torch.tensor([1.5, 1.2, 3.2]).double(), torch.tensor([0.1, 0.2, 0.0]).double()
    back = torch.nn.functional.normalize(position - target, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]).double(), back), dim=0)
    axes = torch.stack([right, torch.linalg.cross(back, right), back], dim=1)
    camera: dict[str, Any] = {
        "position": dict(zip("xyz", position.tolist(), strict=True)),
        "target": dict(zip("xyz", target.tolist(), strict=True)),
        "fov": 40.0,
    }
    if with_quaternion:
        camera["quaternion"] = dict(zip("wxyz", rotations.matrices_to_quats(axes).tolist(), strict=True))

    flip = torch.diag(torch.tensor([1.0, -1, -1]).double())
    pose = torch.eye(4).double()
    pose[:3, :3] = flip @ axes.T @ flip
    pose[:3, 3] = -pose[:3, :3] @ flip @ position
    focal = SIZE[1] / 2 / math.tan(math.radians(20))
    K = torch.tensor([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]]).double()
    splat = splats_of(sample_scene.run(scene, sample_scene.Config("0.5")))[0]
    theirs = render_gaussians(
        splat, Cameras(pose[None], K[None], (SIZE,), ("view",)), choose("auto"), scene.background
    )

    config = camera_path.Config(frames=1, start_seconds=0.5, width=SIZE[0], height=SIZE[1])
    path = camera_path.make(scene, config, load3d.from_load3d(json.loads(json.dumps(camera))))
    ours = result(render_scene.run(scene, path)).images
    assert float(theirs.rgb.std()) > 0.02, "the image is empty"
    assert torch.allclose(ours, theirs.rgb.clamp(0, 1), atol=2e-3)


@pytest.mark.parametrize("how", ["says it", "was made anew", "as stored"])
def test_a_scene_comes_back_with_its_rig(scene: Scene4D, how: str) -> None:
    orientation = "as stored" if how == "as stored" else "upright"
    samples = sample_scene.run(scene, sample_scene.Config(orientation=orientation))
    config = splat_to_scene.Config(orientation="auto")
    back = splat_to_scene.make(splats_of(samples, knows=how != "was made anew"), config, scene)
    assert back.rig is scene.rig and torch.equal(back.times, scene.times)
    assert torch.equal(back.background, scene.background) and torch.equal(back.bounds, scene.bounds)
    for seconds in scene.times.tolist():
        assert_same(back.at(seconds), scene.at(seconds))
    turn = upright_turn(scene.rig)
    assert turn is not None
    is_turned = not is_unturned(turn)
    assumed = "is taken for upright" in splat_to_scene.summary(back)
    assert assumed == (how == "was made anew" and is_turned)


def test_what_the_user_says_of_a_splat_counts(scene: Scene4D) -> None:
    stored = sample_scene.run(scene, sample_scene.Config(orientation="as stored"))
    for i, seconds in enumerate(stored["times"].tolist()):
        assert torch.equal(stored["means"][i], scene.at(seconds).activated().means)
    assert "turn" not in stored and "upright" not in sample_scene.summary(stored)
    config = splat_to_scene.Config(orientation="as stored")
    assert_same(splat_to_scene.make(splats_of(stored, knows=False), config, scene).at(0.3), scene.at(0.3))


def test_without_the_original_a_splat_still_stands_upright(scene: Scene4D) -> None:
    splats = splats_of(sample_scene.run(scene))
    back = splat_to_scene.make(splats)
    assert torch.allclose(rig_up(back.rig), torch.tensor([0.0, -1, 0]).double(), atol=1e-6)
    up = rig_up(scene.rig)
    assert torch.allclose(-back.canonical.means[:, 1].double(), scene.at(0).means.double() @ up, atol=1e-5)


def test_graphs_that_name_the_scenes_own_up_axis_keep_it() -> None:
    """Before splats were turned, a scene with z up came through as it was, and Splat to 4D Scene had to be told."""
    scene = scene_with(UPS["z up"])
    back = splat_to_scene.make(splats_of(sample_scene.run(scene)), splat_to_scene.Config(up="z up"))
    assert_same(back.at(0.0), scene.at(0.0))
    assert torch.allclose(rig_up(back.rig), torch.tensor([0.0, 0, 1]).double(), atol=1e-6)


def test_times_of_a_sample_come_back_and_guessed_ones_are_named(scene: Scene4D) -> None:
    samples = sample_scene.run(scene, sample_scene.Config("0.2,0.5,1.1"))
    known = splat_to_scene.make(splats_of(samples), original=scene)
    assert known.times.tolist() == [0.2, 0.5, 1.1]
    assert_same(known.at(0.5), scene.at(0.5))
    guessed = splat_to_scene.make(splats_of(samples, knows=False), splat_to_scene.Config(fps=10.0), scene)
    assert torch.allclose(guessed.times, torch.tensor([0.0, 0.1, 0.2]).double())
    assert "The original has 6 frames and the splat 3" in splat_to_scene.summary(guessed)
    still = splat_to_scene.make(
        splats_of(sample_scene.run(scene, sample_scene.Config("0.5"))), original=scene
    )
    assert torch.equal(still.times, scene.times)
    assert_same(still.at(1.0), scene.at(0.5))


def rolled(count: int = 6) -> Cameras:
    """Cameras around a subject, rolled every way."""
    rig = moving_scene(count=8, views=count).rig
    poses = rig.world_to_camera.double().clone()
    for i in range(count):
        angle = torch.tensor([0.0, 0.0, 2 * math.pi * i / count]).double()
        poses[i, :3] = rotations.axis_angles_to_matrices(angle) @ poses[i, :3]
    return replace(rig, world_to_camera=poses)


@pytest.mark.parametrize("rig", [rolled(), moving_scene(count=8).rig[[]]], ids=["rolled", "no cameras"])
def test_without_a_clear_up_nothing_is_turned_and_the_note_says_so(rig: Cameras) -> None:
    scene = scene_with(UPS["tilted"]).with_(rig=rig)
    assert found_up(rig) is None and upright_turn(rig) is None
    samples = sample_scene.run(scene)
    assert torch.equal(samples["means"][0], scene.at(0.0).activated().means) and "turn" not in samples
    assert "do not agree which way is up" in sample_scene.summary(samples)
    if not len(rig):
        return
    back = splat_to_scene.make(splats_of(samples, knows=False), original=scene)
    assert_same(back.at(0.0), scene.at(0.0))
    assert "do not agree which way is up" in splat_to_scene.summary(back)
    view = {"position": {"x": 0, "y": 0, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}}
    path = camera_path.make(scene, camera_path.Config(frames=1), load3d.from_load3d(view))
    assert torch.allclose(path.cameras.centers[0], torch.tensor([0.0, 0, -4]).double())
    assert "do not agree which way is up" in camera_path.summary(path)


def test_returned_cameras_see_the_scene_upright_and_lead_back(scene: Scene4D) -> None:
    path = camera_path.make(scene, camera_path.Config(frames=4, kind="orbit"))
    cameras = json.loads(json.dumps(load3d.path_to_load3d(path)))
    up = rig_up(scene.rig)
    for i, camera in enumerate(cameras):
        assert camera["position"]["y"] == pytest.approx(float(path.cameras.centers[i] @ up), abs=1e-9)
        q = torch.tensor([camera["quaternion"][axis] for axis in "wxyz"]).double()
        # the camera's own up and right in ComfyUI's world
        axes = rotations.quats_to_matrices(q)
        assert float(axes[1, 1]) > 0.9 and abs(float(axes[1, 0])) < 1e-6
    views = load3d.from_load3d(cameras)
    again = camera_path.make(scene, camera_path.Config(frames=4), views).cameras
    assert torch.allclose(again.world_to_camera, path.cameras.world_to_camera, atol=1e-9)
    # where no scene is at hand, cameras know the way back by themselves
    stored = torch.stack([view.as_stored().world_to_camera for view in views])
    assert torch.allclose(stored, path.cameras.world_to_camera, atol=1e-9)
    # in a scene that stands upright itself they are where they are
    upright = splat_to_scene.make(splats_of(sample_scene.run(scene)))
    there = camera_path.make(upright, camera_path.Config(frames=4), views).cameras
    assert torch.allclose(-there.centers[:, 1], path.cameras.centers @ up, atol=1e-6)


def test_cameras_can_stay_as_stored(scene: Scene4D) -> None:
    config = camera_path.Config(frames=3, kind="orbit", camera_orientation="as stored")
    path = camera_path.make(scene, config)
    cameras = load3d.path_to_load3d(path)
    assert load3d.TURN not in cameras[0]
    place = torch.tensor([cameras[0]["position"][axis] for axis in "xyz"]).double()
    assert torch.allclose(place * torch.tensor([1.0, -1, -1]), path.cameras.centers[0], atol=1e-9)
    again = camera_path.make(scene, config, load3d.from_load3d(cameras)).cameras
    assert torch.allclose(again.world_to_camera, path.cameras.world_to_camera, atol=1e-9)


def test_a_view_of_the_player_is_the_same_upright(scene: Scene4D) -> None:
    """The player frames in the scene's own axes; what leaves its node is upright, and renders what was framed."""
    turn = upright_turn(scene.rig)
    given = load3d.to_load3d(scene.rig, 2, torch.zeros(3))
    leaving = json.loads(json.dumps(load3d.upright(given, turn)))
    assert load3d.upright(leaving, turn) == leaving
    path = camera_path.make(scene, camera_path.Config(frames=1), load3d.from_load3d(leaving))
    assert torch.allclose(path.cameras.world_to_camera[0], scene.rig.world_to_camera[2].double(), atol=1e-9)
    assert not path.note, "nothing was assumed"


@pytest.mark.parametrize("pitch", [0.0, 20.0, 50.0])
@pytest.mark.parametrize("roll", [0.0, 2.0])
def test_cameras_on_one_side_that_look_down_do_not_tilt_what_is_up(pitch: float, roll: float) -> None:
    generator = torch.Generator().manual_seed(0)
    poses = []
    for i in range(12):
        angle, high = math.radians(-60 + 120 * i / 11), math.radians(pitch + 5 * (i % 2))
        flat = torch.tensor(
            [math.sin(angle) * math.cos(high), -math.cos(angle) * math.cos(high), math.sin(high)]
        )
        pose = look_at(3 * flat, torch.zeros(3), torch.tensor([0.0, 0, 1]))
        lean = torch.tensor([0, 0, math.radians(roll) * float(torch.randn(1, generator=generator))]).double()
        pose[:3] = rotations.axis_angles_to_matrices(lean) @ pose[:3]
        poses.append(pose)
    w2c = torch.stack(poses)
    rig = Cameras(w2c, torch.eye(3).double().repeat(12, 1, 1), ((8, 8),) * 12, tuple(map(str, range(12))))
    up = rig_up(rig)
    off = math.degrees(math.acos(min(1.0, float(up[2]))))
    assert off < (1e-3 if roll == 0 else 2.0)


def test_cameras_that_look_straight_down_know_up_by_where_they_look() -> None:
    poses = []
    for i in range(9):
        heading = math.radians(40 * i)
        down = torch.tensor([1e-3 * i, 0.0, 0.0])
        ahead = torch.tensor([math.cos(heading), math.sin(heading), 0.0])
        poses.append(
            look_at(
                torch.tensor([1.0 * (i % 3), 1.0 * (i // 3), 5.0]),
                down + torch.tensor([1.0 * (i % 3), 1.0 * (i // 3), 0.0]),
                ahead,
            )
        )
    rig = Cameras(
        torch.stack(poses), torch.eye(3).double().repeat(9, 1, 1), ((8, 8),) * 9, tuple(map(str, range(9)))
    )
    assert float(rig_up(rig)[2]) > 0.999


def test_one_camera_stands_upright() -> None:
    rig = moving_scene(count=8).rig[2]
    assert torch.allclose(rig_up(rig), -rig.world_to_camera[0, 1, :3].double())


def test_a_camera_in_the_worlds_coordinates_was_not_turned() -> None:
    """Far from zero, only a camera that was aimed at a file can have such coordinates, and files are as stored."""
    far = (500_000.0, 4_000_000.0, 100.0)
    scene = scene_with(UPS["z up"])
    scene = scene.with_(rig=replace(scene.rig, origin=far))
    given = load3d.to_load3d(scene.rig.with_origin((0.0, 0.0, 0.0)), 1, torch.tensor(far))
    path = camera_path.make(scene, camera_path.Config(frames=1), load3d.from_load3d(given))
    assert torch.allclose(path.cameras.world_to_camera[0], scene.rig.world_to_camera[1].double(), atol=1e-5)


def test_a_damaged_turn_is_refused() -> None:
    from engine.errors import InputError

    good = load3d.to_load3d(moving_scene(count=8).rig, 0, torch.zeros(3), torch.eye(3).double())
    for turn in ({"w": 1}, {"w": math.nan, "x": 0, "y": 0, "z": 0}, "up"):
        with pytest.raises(InputError, match=r"camera"):
            load3d.from_load3d({**good, load3d.TURN: turn})
