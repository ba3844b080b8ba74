"""Gaussians that too few views show are recycled: which ones, how late, and that nothing else changes."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from engine import messages as m
from engine.render import choose, render_gaussians
from engine.scene import Gaussians
from engine.steps import fit_scene
from engine.steps.fit_scene import FitScene
from engine.train import support as module
from engine.train.parameters import NAMES, GaussianParameters, Lineage
from engine.train.support import DECAY, FRAMES, LEAST, PATIENCE, RETIRED, Support, contributions
from tests.scenes import capture_of, moving_scene, ring

CONFIG = fit_scene.Config(iterations=60, budget=150, initial_count=150, preview_every=0, coarse_fraction=0.2)
VIEWS = list(range(8))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


def blobs(points: list[list[float]], radii: list[float]) -> Gaussians:
    """Opaque balls."""
    means = torch.tensor(points)
    count = len(points)
    return Gaussians(
        means,
        torch.tensor(radii).log()[:, None].repeat(1, 3),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.full((count,), 0.99).logit(),
        torch.zeros(count, 1, 3),
    )


def support_of(count: int) -> Support:
    return Support(replace(CONFIG, min_views=2), True, ring(8).centers, {0: VIEWS}, count, CPU)


def parameters_of(count: int) -> GaussianParameters:
    return GaussianParameters(moving_scene(count=count).canonical, dict.fromkeys(NAMES, 0.0))


def retired(support: Support, parameters: GaussianParameters) -> list[bool]:
    before = parameters.tensors["logit_opacities"].detach().clone()
    support.retire(parameters)
    return (parameters.tensors["logit_opacities"].detach() != before).tolist()


def test_contributions_add_up_to_the_coverage_of_the_image():
    gaussians, cameras, rasterizer = moving_scene().canonical, ring(8), choose("auto", "cpu")
    for view in (0, 3):
        drawn = render_gaussians(gaussians, cameras[view], rasterizer)
        found = contributions(gaussians, cameras[view], rasterizer)
        torch.testing.assert_close(found.sum(), drawn.alpha.sum(), rtol=1e-4, atol=1e-3)


def test_contributions_are_what_a_color_adds_to_the_image():
    """The twin: a Gaussian's weights are the image in which it alone is white."""
    gaussians, camera, rasterizer = moving_scene(count=12).canonical, ring(8)[2], choose("auto", "cpu")
    drawn = gaussians.activated()
    w2c, K, _ = camera.on(drawn.means)
    one_hot = torch.eye(len(gaussians))
    images, _, _ = rasterizer.render(
        drawn.means, drawn.quats, drawn.scales, drawn.opacities, one_hot, w2c, K, *camera.sizes[0]
    )
    found = contributions(gaussians, camera, rasterizer)
    torch.testing.assert_close(found, images.sum(dim=(0, 1, 2)), rtol=1e-4, atol=1e-4)


def test_contributions_leave_no_gradient_behind(video):
    work = FitScene(video, CONFIG, "cpu")
    gaussians = work.parameters.gaussians()
    contributions(gaussians, work.rig(1.0)[0], work.rasterizer)
    assert all(tensor.grad is None for tensor in work.parameters.tensors.values())


def test_what_a_wall_hides_from_all_views_but_one_goes():
    """A ball that a wall of seven others hides from all cameras but one; not before it is old enough."""
    cameras, rasterizer = ring(8), choose("auto", "cpu")
    towards = torch.linalg.inv(cameras.world_to_camera.double())[:, :3, 3]
    towards = towards / towards.norm(dim=-1, keepdim=True)
    wall = [(0.5 * way).tolist() for way in towards[1:]]
    gaussians = blobs([[0.0, 0.0, 0.0], *wall], [0.03] + [0.25] * len(wall))
    support = support_of(len(gaussians))
    parameters = GaussianParameters(gaussians, dict.fromkeys(NAMES, 0.0))
    for _ in range(PATIENCE - 1):
        support.observe(gaussians, cameras, VIEWS, rasterizer)
        assert not any(retired(support, parameters))
    support.observe(gaussians, cameras, VIEWS, rasterizer)
    assert retired(support, parameters) == [True] + [False] * len(wall)
    assert float(parameters.tensors["logit_opacities"].detach()[0].sigmoid()) == pytest.approx(RETIRED)


def test_a_gaussian_in_the_images_of_few_views_is_not_contradicted():
    """Along the edges of a scene, one view is all that there is."""
    cameras, rasterizer = ring(8), choose("auto", "cpu")
    # in front of camera 0, beside what its neighbors see
    near = 0.75 * torch.linalg.inv(cameras.world_to_camera.double())[0, :3, 3]
    gaussians = blobs([near.tolist(), (0.9 * near).tolist()], [0.02, 0.02])
    support, views = support_of(2), [0, 1, 7]
    for _ in range(12):
        support.observe(gaussians, cameras, views, rasterizer)
    assert support.within.tolist() == [1, 1]
    assert ((support.shown[views] > LEAST).sum(dim=0) == 1).all()
    assert retired(support, parameters_of(2)) == [False, False]
    # nothing shows the second one
    support.shown[0, 1] = 0.0
    assert retired(support, parameters_of(2)) == [False, True]


def test_what_shows_in_every_fifth_frame_stays():
    """Such as teeth: the mean does not fall below the limit between two frames that show a few pixels."""
    mean = 0.0
    for frame in range(50):
        mean = DECAY * mean + (1 - DECAY) * (4.0 if frame % 5 == 4 else 0.0)
        assert mean > LEAST or frame < PATIENCE


def test_held_gaussians_and_the_last_of_a_group_stay():
    parameters = parameters_of(4)
    parameters.held[0] = True
    parameters.groups = torch.tensor([0, 0, 1, 0])
    support = support_of(4)
    support.shown[:, 3], support.age[:] = 5.0, PATIENCE
    assert retired(support, parameters) == [False, True, False, False]


def test_a_relocated_gaussian_begins_anew_and_others_keep_their_count():
    support = support_of(3)
    support.shown[:], support.age = torch.tensor([0.1, 3.0, 5.0]), torch.tensor([7, 8, 9])
    support.after_density(Lineage(torch.tensor([1, 1, 2, 1]), torch.tensor([True, False, False, True])))
    assert support.shown[3].tolist() == [0.0, 3.0, 5.0, 0.0]
    assert support.age.tolist() == [0, 8, 9, 0]


@pytest.mark.parametrize("count", [1, 5, 24, 100])
def test_visits_reach_all_parts_of_a_video(count):
    """Any eight frames in a row lie all over the video: at most a third of it is skipped."""
    frames = list(range(10, 10 + count))
    visits = range(module.EVERY, 40 * module.EVERY, module.EVERY)
    row = [frame for visit in visits for frame in Support.moments(visit, frames)]
    assert set(row) <= set(frames)
    for start in range(0, len(row) - 8, FRAMES):
        seen = sorted({9, *row[start : start + 8], 10 + count})
        assert max(b - a for a, b in pairwise(seen)) <= max(2, count / 3)


def arc(count: int, degrees: float) -> torch.Tensor:
    """Centers [count, 3] of cameras on a horizontal arc around the subject."""
    angles = torch.deg2rad(torch.linspace(-degrees / 2, degrees / 2, count))
    return 3 * torch.stack([angles.sin(), torch.zeros(count), angles.cos()], dim=1)


@pytest.mark.parametrize(
    ("views", "min_views", "density", "has_masks", "degrees", "needed"),
    [(8, 0, "fixed budget", True, 120, 2), (6, 0, "adaptive", True, 60, 2), (5, 0, "fixed budget", True, 120, 1),
     (8, 1, "fixed budget", True, 120, 1), (8, 0, "fixed budget", False, 120, 1), (4, 2, "fixed budget", False, 300, 2),
     (8, 0, "none", True, 120, 1), (8, 0, "fixed budget", True, 180, 1), (8, 0, "fixed budget", True, 315, 1)],
)  # fmt: skip
def test_auto_asks_for_two_views_where_there_are_masks_and_six_look_from_one_side(
    views, min_views, density, has_masks, degrees, needed
):
    config = replace(CONFIG, min_views=min_views, density=density)
    support = Support(config, has_masks, arc(views, degrees), {0: [0], 3: list(range(views))}, 5, CPU)
    assert support.needed == needed
    assert bool(support.note) == (needed > 1) == support.is_due(module.EVERY)
    assert (f"(auto: {views} views from one side)" in support.note) == (needed > 1 and not min_views)


def test_the_start_says_what_was_chosen(video):
    started = next(iter(fit_scene.run(video, replace(CONFIG, min_views=2))))
    assert isinstance(started, m.Started)
    assert "Gaussians that fewer than 2 views show are recycled" in started.note


@pytest.mark.parametrize("density", ["fixed budget", "adaptive"])
def test_density_control_takes_what_was_retired(video, density):
    """Ten Gaussians inside the opaque shell, which no view shows, are elsewhere or gone after a few visits."""
    work = FitScene(video, replace(CONFIG, min_views=2, density=density, iterations=5000), "cpu")
    tensors = work.parameters.tensors
    with torch.no_grad():
        tensors["means"][:10] = 0.01 * torch.randn(10, 3)
        tensors["log_scales"][:10] = -5.0
        tensors["logit_opacities"][:] = 6.0
        # as large as the adaptive control allows
        tensors["log_scales"][10:] = math.log(0.099)
    for visit in range(1, 8 // FRAMES + 1):
        work.iteration = 1000 + visit * 100
        work._retire_unsupported()
    assert (work.parameters.tensors["logit_opacities"].detach()[:10].sigmoid() < 0.005).all()
    work._control_density([], 0.0)
    inside = (work.parameters.tensors["means"].detach().norm(dim=-1) < 0.05).sum()
    assert int(inside) == 0


def test_a_run_resumed_between_visits_ends_with_the_same_bits(video, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 5)
    monkeypatch.setattr(module, "FRAMES", 2)
    monkeypatch.setattr(module, "DECAY", 0.5)
    checkpoint = tmp_path / "training.safetensors"
    config = replace(CONFIG, min_views=2)
    whole = m.result(fit_scene.run(video, config))
    without = m.result(fit_scene.run(video, replace(config, min_views=1)))
    stream = fit_scene.run(video, config, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 32:
            break
    stream.close()
    again = m.result(fit_scene.run(video, config, checkpoint=checkpoint))
    tensors = {**again.canonical.tensors(), **again.deformation.tensors()}
    for name, tensor in {**whole.canonical.tensors(), **whole.deformation.tensors()}.items():
        assert torch.equal(tensor, tensors[name]), name
    assert not torch.equal(whole.canonical.means, without.canonical.means)
