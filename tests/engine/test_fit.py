"""Training: it learns motion, the same bits come out of a run resumed on the CPU, inputs stay as they were."""

import math
from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.scene import Scene4D
from engine.steps import evaluate_scene, fit_scene
from engine.steps.fit_scene import FitScene
from engine.train.densify import shared_opacity_and_scale
from tests.scenes import capture_of, moving_scene

QUICK = fit_scene.Config(
    iterations=60,
    budget=300,
    initial_count=150,
    views_per_step=2,
    preview_every=20,
    sh_degree=1,
    coarse_fraction=0.2,
)


@pytest.fixture(scope="module")
def truth():
    return moving_scene()


@pytest.fixture(scope="module")
def video(truth):
    return capture_of(truth)


def bits(scene: Scene4D) -> dict[str, torch.Tensor]:
    return {**scene.canonical.tensors(), **{f"motion.{k}": v for k, v in scene.deformation.tensors().items()}}


def assert_same_bits(a: Scene4D, b: Scene4D) -> None:
    first, second = bits(a), bits(b)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def held_out_psnr(scene, video) -> float:
    return m.result(evaluate_scene.run(scene, video)).summary["psnr"]


def test_same_seed_same_scene_and_another_seed_another(video):
    a = m.result(fit_scene.run(video, QUICK))
    assert_same_bits(a, m.result(fit_scene.run(video, QUICK)))
    other = m.result(fit_scene.run(video, replace(QUICK, seed=1)))
    assert not torch.equal(a.canonical.means, other.canonical.means[: len(a.canonical)])


@pytest.mark.parametrize("density", ["fixed budget", "adaptive"])
@pytest.mark.parametrize("stop_at", [5, 31])
def test_resumed_equals_uninterrupted(video, tmp_path, density, stop_at):
    config = replace(QUICK, density=density, iterations=50)
    whole = m.result(fit_scene.run(video, config))
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(video, config, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == stop_at:
            break
    stream.close()
    assert checkpoint.is_file(), "closing the stream keeps what was trained"
    messages = list(fit_scene.run(video, config, checkpoint=checkpoint))
    first = next(x for x in messages if isinstance(x, m.Progress))
    assert first.done == stop_at + 1
    assert_same_bits(whole, messages[-1].value)
    assert not checkpoint.exists()


def test_a_run_that_grew_grows_on_after_a_resume(video, tmp_path):
    config = replace(QUICK, iterations=300)
    checkpoint = tmp_path / "training.safetensors"
    whole = m.result(fit_scene.run(video, config))
    counts = [QUICK.initial_count]
    stream = fit_scene.run(video, config, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 120:
            counts.append(message.count)
            break
    stream.close()
    again = m.result(fit_scene.run(video, config, checkpoint=checkpoint))
    assert counts[0] < counts[1] < len(again.canonical)
    assert_same_bits(whole, again)


def test_a_checkpoint_of_another_config_is_not_resumed(video, tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    run = FitScene(video, QUICK, "cpu")
    run.step()
    run.save(checkpoint)
    assert FitScene(video, QUICK, "cpu").resume(checkpoint)
    assert not FitScene(video, replace(QUICK, iterations=61), "cpu").resume(checkpoint)


def test_a_damaged_checkpoint_says_so(video, tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    run = FitScene(video, QUICK, "cpu")
    run.save(checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"training\.safetensors is damaged"):
        next(fit_scene.run(video, QUICK, checkpoint=checkpoint))


def test_motion_is_learnt():
    """Far better than a still scene on a view that was held out (measured: 25.1 dB against 20.3)."""
    video = capture_of(moving_scene(count=120, views=16, moments=5))
    config = replace(
        QUICK,
        iterations=300,
        preview_every=0,
        initial_count=300,
        position_lr=1e-3,
        color_lr=1e-2,
        network_lr=2e-3,  # these steps are few: a field at its usual rate has not arrived yet
    )
    dynamic = held_out_psnr(m.result(fit_scene.run(video, config)), video)
    still = held_out_psnr(m.result(fit_scene.run(video, replace(config, motion="none"))), video)
    assert dynamic > 23
    assert dynamic > still + 3


def test_stream_tells_progress_previews_and_the_end(video):
    messages = list(fit_scene.run(video, QUICK))
    assert isinstance(messages[0], m.Started) and messages[0].total == QUICK.iterations
    assert [x.done for x in messages if isinstance(x, m.Progress)] == list(range(1, 61))
    previews = [x.image for x in messages if isinstance(x, m.Preview)]
    assert len(previews) == 3 and all(
        p.shape == (40, 96, 3) and 0 <= p.min() and p.max() <= 1 for p in previews
    )
    assert isinstance(messages[-1], m.Finished)


def test_units_do_not_matter(truth):
    """The same capture in millimeters trains to the same scene, a thousand times as large."""
    big = truth.with_(
        canonical=truth.canonical.with_(
            means=truth.canonical.means * 1000, log_scales=truth.canonical.log_scales + math.log(1000)
        ),
        bounds=truth.bounds * 1000,
        deformation=type(truth.deformation)(reach=500.0),
    )
    w2c = truth.rig.world_to_camera.clone()
    w2c[:, :3, 3] *= 1000
    big = big.with_(rig=replace(truth.rig, world_to_camera=w2c))
    config = replace(QUICK, iterations=30, bounds="-1.6 -1.2 -1.2 1.6 1.2 1.2")
    small_scene = m.result(fit_scene.run(capture_of(truth), config))
    video = replace(capture_of(big), near=1000.0, far=10000.0)
    big_scene = m.result(fit_scene.run(video, replace(config, bounds="-1600 -1200 -1200 1600 1200 1200")))
    assert len(small_scene.canonical) == len(big_scene.canonical)
    assert held_out_psnr(small_scene, capture_of(truth)) == pytest.approx(
        held_out_psnr(big_scene, video), abs=0.5
    )


def test_held_out_views_and_moments_are_not_trained_on(video):
    run = FitScene(video, replace(QUICK, hold_out_every=3), "cpu")
    assert set(run.samples) == {0, 1, 3, 4}
    assert all(0 not in views for views in run.samples.values())


def test_the_video_and_the_scene_are_not_changed(truth, video):
    before = {name: t.clone() for name, t in truth.canonical.tensors().items()}
    picture = video.source.read(1, 0).image.clone()
    m.result(fit_scene.run(video, replace(QUICK, iterations=5)))
    assert torch.equal(picture, video.source.read(1, 0).image)
    assert all(torch.equal(t, truth.canonical.tensors()[name]) for name, t in before.items())


def test_one_still_view_is_refused(truth):
    lone = replace(truth, rig=truth.rig[0])
    with pytest.raises(InputError, match="at least two, or a moving camera"):
        fit_scene.run(capture_of(lone, test_views=()), QUICK)


@pytest.mark.parametrize("words", ["1 2 3", "0 0 0 1 1 nan", "1 1 1 0 0 0", "a b c d e f"])
def test_bounds_that_are_none_are_refused(video, words):
    with pytest.raises(InputError, match="six numbers"):
        next(fit_scene.run(video, replace(QUICK, bounds=words)))


def test_relocation_keeps_what_a_ray_through_the_centre_sees():
    """n stacked copies of the shared opacity let through what the one Gaussian did (Kheradmand et al., equation 9)."""
    opacity = torch.tensor([0.1, 0.5, 0.9, 0.99])
    for n in (1, 2, 5):
        shared, scale = shared_opacity_and_scale(opacity, torch.full((4,), n))
        assert torch.allclose((1 - shared) ** n, 1 - opacity, atol=1e-6)
        assert bool((scale <= 1 + 1e-6).all())
    _, alone = shared_opacity_and_scale(opacity, torch.ones(4, dtype=torch.long))
    assert torch.allclose(alone, torch.ones(4))


def test_a_scene_that_could_not_be_put_away_is_not_trained_again(video, tmp_path):
    """The checkpoint stays until whoever asked for the scene goes on: a full disk then costs no training."""
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(video, QUICK, checkpoint=checkpoint)
    made = next(message.value for message in stream if isinstance(message, m.Finished))
    stream.close()
    messages = list(fit_scene.run(video, QUICK, checkpoint=checkpoint))
    assert not any(isinstance(message, m.Progress) for message in messages)
    assert_same_bits(made, messages[-1].value)
    assert not checkpoint.exists()


def test_a_training_survives_a_disk_that_is_full(video, tmp_path, caplog):
    """What cannot be saved on the way is said; the scene still comes."""
    blocked = tmp_path / "file"
    blocked.write_text("x")
    config = replace(QUICK, iterations=3, checkpoint_seconds=1.0)
    ticks = iter(range(0, 1000, 5))
    messages = list(
        fit_scene.run(video, config, checkpoint=blocked / "training.safetensors", clock=lambda: next(ticks))
    )
    assert isinstance(messages[-1], m.Finished) and not any(isinstance(x, m.Saved) for x in messages)
    assert "continues without a checkpoint" in caplog.text


def test_two_views_are_enough_where_test_views_may_be_trained_on(truth):
    pair = capture_of(replace(truth, rig=truth.rig[[0, 1]]), test_views=(0,))
    with pytest.raises(InputError, match="at least two, or a moving camera"):
        fit_scene.run(pair, QUICK)
    fit_scene.run(pair, replace(QUICK, keeps_test_views_out=False)).close()
