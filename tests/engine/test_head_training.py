"""Training Gaussians on a head: bindings through density control, exact resume, head parameters, the result's identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.deform import BoundMesh
from engine.errors import InputError
from engine.heads import Head
from engine.io.scene_file import load_scene, save_scene
from engine.messages import Finished
from engine.render import choose, render_gaussians
from engine.scene import Cameras, Frame, MultiViewVideo, Scene4D, harmonics
from engine.steps import fit_scene
from engine.train.config import FitConfig
from engine.train.densify import DefaultStrategy, MCMCStrategy
from engine.train.fit import Fit
from engine.train.head_motion import head_for, spread_colors
from engine.train.parameters import GaussianParameters
from tests.tiny_head import tiny_head

QUICK = FitConfig(
    iterations=24,
    density="fixed budget",
    budget=160,
    sh_degree=0,
    start_scale=1.0,
    preview_every=0,
    rasterizer="torch",
    views_per_step=1,
)


class Rendered:
    """Frames of a head whose triangles have random colors."""

    def __init__(self, head: Head, cameras: Cameras) -> None:
        self.head, self.cameras = head, cameras
        faces = head.model.faces
        colors = torch.rand(len(faces), 3, generator=torch.Generator().manual_seed(5))
        rest = head.vertices()[0]
        local = replace_colors(head, colors)
        self.scene = Scene4D(
            local,
            BoundMesh(faces, rest, head.vertices(), head.motion.times, torch.arange(len(faces))),
            head.motion.times,
            cameras,
            torch.zeros(2, 3),
            torch.ones(3),
        )

    def read(self, view: int, moment: int) -> Frame:
        with torch.no_grad():
            image = render_gaussians(
                self.scene.at(float(self.head.motion.times[moment])),
                self.cameras[view],
                choose("torch", "cpu"),
                torch.ones(3),
            ).rgb[0]
        return Frame((image.clamp(0, 1) * 255).byte())

    def fingerprint(self) -> str:
        return "rendered head"


def replace_colors(head: Head, colors: torch.Tensor):
    from engine.heads import to_world, triangle_frames
    from engine.scene import Gaussians

    count = len(head.model.faces)
    local = Gaussians(
        torch.zeros(count, 3),
        torch.tensor([0.5, 0.2, 0.5]).log().repeat(count, 1),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.full((count,), 3.0),
        harmonics.rgb_to_dc(colors)[:, None],
    )
    return to_world(local, triangle_frames(head.vertices()[0], head.model.faces), torch.arange(count))


def video_of(head: Head) -> MultiViewVideo:
    poses, names = [], ("front", "left", "right")
    for turn in (0.0, 0.6, -0.6):
        c, s = torch.tensor(turn).cos(), torch.tensor(turn).sin()
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.tensor([[c, 0, -s], [0, -1, 0], [-s, 0, -c]], dtype=torch.float64)
        pose[2, 3] = 0.5
        poses.append(pose)
    K = torch.tensor([[60.0, 0, 16], [0, 60, 16], [0, 0, 1]], dtype=torch.float64).repeat(3, 1, 1)
    cameras = Cameras(torch.stack(poses), K, ((32, 32),) * 3, names)
    available = torch.ones(3, len(head.motion), dtype=torch.bool)
    return MultiViewVideo(
        "head", cameras, head.motion.times, available, Rendered(head, cameras), background=torch.ones(3)
    )


@pytest.fixture(scope="module")
def head() -> Head:
    return tiny_head(frames=4)


@pytest.fixture(scope="module")
def video(head: Head) -> MultiViewVideo:
    return video_of(head)


class Training(Fit):
    step_name = "fit_scene"


def steps(fit: Fit, count: int) -> float:
    return [fit.step() for _ in range(count)][-1]["loss"]


def test_training_lowers_the_loss_and_binds_every_gaussian(head: Head, video: MultiViewVideo) -> None:
    fit = Training(video, QUICK, "cpu", head)
    first = sum(fit.step()["loss"] for _ in range(4))
    assert sum(fit.step()["loss"] for _ in range(16)) / 4 < first
    mesh = fit.result().deformation
    assert isinstance(mesh, BoundMesh)
    assert len(mesh.binding) == len(fit)
    assert torch.equal(mesh.frames, head.vertices())


@pytest.mark.parametrize("density", ["fixed budget", "adaptive"])
def test_resume_equals_uninterrupted(head: Head, video: MultiViewVideo, tmp_path: Path, density: str) -> None:
    config = replace(QUICK, density=density, head_lr=1.0)
    whole, half = Training(video, config, "cpu", head), Training(video, config, "cpu", head)
    steps(whole, 12)
    steps(half, 6)
    half.save(tmp_path / "half.safetensors")
    again = Training(video, config, "cpu", head)
    assert again.resume(tmp_path / "half.safetensors")
    steps(again, 6)
    for name, tensor in whole.trained().items():
        assert torch.equal(tensor, again.trained()[name]), name


def test_a_head_that_is_not_fine_tuned_keeps_its_parameters(head: Head, video: MultiViewVideo) -> None:
    fit = Training(video, QUICK, "cpu", head)
    steps(fit, 5)
    parameters = fit.result().deformation.parameters
    assert all(torch.equal(parameters[n], t) for n, t in head.motion.tensors().items() if n != "times")


def test_fine_tuning_changes_expression_pose_and_translation_but_not_the_shape(
    head: Head, video: MultiViewVideo
) -> None:
    fit = Training(video, replace(QUICK, head_lr=1.0), "cpu", head)
    steps(fit, 5)
    parameters = fit.result().deformation.parameters
    changed = {
        n for n, t in head.motion.tensors().items() if n != "times" and not torch.equal(parameters[n], t)
    }
    assert changed == {"expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation"}


def test_canonical_gaussians_are_those_of_the_rest_pose_in_world_units(
    head: Head, video: MultiViewVideo
) -> None:
    fit = Training(video, QUICK, "cpu", head)
    scene = fit.result()
    centers = scene.deformation.rest[head.model.faces].mean(1)
    torch.testing.assert_close(scene.canonical.means, centers, atol=1e-6, rtol=0)
    again = scene.deformation.carry(scene.canonical, scene.deformation.rest)
    torch.testing.assert_close(again.means, scene.canonical.means, atol=1e-6, rtol=0)


def test_the_scene_file_plays_without_the_head_model(
    head: Head, video: MultiViewVideo, tmp_path: Path
) -> None:
    scene = Training(video, QUICK, "cpu", head).result()
    read = load_scene(save_scene(scene, tmp_path / "head.safetensors"))
    assert torch.equal(read.at(0.15).means, scene.at(0.15).means)
    arrays = set(read.deformation.tensors())
    assert not {name for name in arrays if "dirs" in name or "template" in name or "weights" in name}


@pytest.mark.parametrize(
    "strategy", [MCMCStrategy(400, every=1), DefaultStrategy(50.0, every=1, start_at=0.0)]
)
def test_no_triangle_ever_loses_its_last_gaussian(strategy: MCMCStrategy | DefaultStrategy) -> None:
    head = tiny_head()
    count = len(head.model.faces)
    gaussians = replace_colors(head, torch.rand(count, 3)).with_(logit_opacities=torch.full((count,), -9.0))
    gaussians = gaussians.with_(logit_opacities=torch.where(torch.arange(count) % 3 == 0, -9.0, 2.0))
    parameters = GaussianParameters(
        gaussians, dict.fromkeys(("means", "log_scales", "quats", "logit_opacities", "sh_dc", "sh_rest"), 0.0)
    )
    parameters.groups = torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    state = strategy.start(count, torch.device("cpu"))
    for iteration in range(40, 60):
        parameters.tensors["logit_opacities"].data -= 0.2
        strategy.after_step(parameters, state, [], iteration, 100, generator)
        assert parameters.groups is not None
        assert len(parameters.groups) == len(parameters)
        assert len(parameters.groups.unique()) == count


def test_triangles_that_no_image_shows_start_with_the_colors_of_their_neighbors() -> None:
    faces = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [6, 7, 8]])
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    known = torch.tensor([True, False, False, True, False])
    start = torch.stack([red, red * 0, red * 0, blue, red * 0])
    colors = spread_colors(start, known, faces)
    assert torch.equal(colors[known], start[known])
    assert torch.allclose(colors[1], (2 * red + blue) / 3)
    assert torch.allclose(colors[2], (red + 2 * blue) / 3)
    assert torch.equal(colors[4], torch.full((3,), 0.5))


def test_head_frames_are_matched_by_time(head: Head, video: MultiViewVideo) -> None:
    later = Head(head.model, head.motion.with_(times=head.motion.times + 5), "late head")
    with pytest.raises(
        InputError,
        match=r"late head has parameters for 4 frames from 5 to 5.3 s, but 4 of head's 4 ",
    ):
        head_for(video, later)
    shuffled = head_for(replace(video, times=video.times[[0, 2]], available=video.available[:, :2]), head)
    assert torch.equal(shuffled.motion.expr, head.motion.expr[[0, 2]])


def test_the_step_takes_a_head(head: Head, video: MultiViewVideo) -> None:
    messages = list(fit_scene.run(video, replace(QUICK, iterations=3), head=head))
    assert isinstance(messages[-1], Finished)
    assert messages[-1].value.deformation.kind == "bound mesh"
