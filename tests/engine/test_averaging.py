"""Averages of the last steps: they are the plain mean, leave the training as it is, and begin again after density control."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.steps import fit_scene
from engine.steps.fit_scene import FitScene
from engine.train.averaging import EVERY, Averages
from tests.scenes import capture_of, moving_scene

CONFIG = fit_scene.Config(
    iterations=60, budget=150, initial_count=150, preview_every=0, coarse_fraction=0.2, averaged=0.5
)


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


def test_means_are_the_mean_of_all_samples():
    rows = torch.randn(7, 5, 3, dtype=torch.float64)
    averages, tensor = Averages(), torch.zeros(5, 3, dtype=torch.float64)
    for row in rows:
        tensor.copy_(row)
        averages.add({"means": tensor, "flags": tensor > 0})
    assert averages.samples == 7 and averages.means.keys() == {"means"}
    torch.testing.assert_close(averages.means["means"], rows.mean(0))


def test_trained_values_return_bit_for_bit():
    tensor = torch.randn(4, 3)
    averages, before = Averages(), tensor.clone()
    averages.add({"means": tensor})
    tensor += 1
    later = tensor.clone()
    with averages.applied({"means": tensor}):
        assert torch.equal(tensor, before)
    assert torch.equal(tensor, later)
    with pytest.raises(RuntimeError), averages.applied({"means": tensor}):
        raise RuntimeError
    assert torch.equal(tensor, later)


def test_without_samples_nothing_is_replaced():
    tensor = torch.randn(4, 3)
    before = tensor.clone()
    with Averages().applied({"means": tensor}):
        assert torch.equal(tensor, before)


def test_a_scene_is_the_mean_of_the_last_steps(video):
    """Without density control, the canonical colors are the mean of those at every sampled step."""
    config = replace(CONFIG, density="none")
    work, colors = FitScene(video, config, "cpu"), []
    while work.iteration < config.iterations:
        work.step()
        if work.progress > 0.5 and work.iteration % EVERY == 0:
            colors.append(work.parameters.tensors["sh_dc"].detach().double().clone())
    assert len(colors) == 6
    made = work.result().canonical.sh[:, :1].double()
    torch.testing.assert_close(made, torch.stack(colors).mean(0), atol=1e-6, rtol=0)
    assert not torch.equal(made, colors[-1])


def test_the_training_itself_does_not_change(video):
    """Averaging is only of the result: a training without it takes the same steps."""
    runs = [FitScene(video, replace(CONFIG, averaged=share), "cpu") for share in (0.0, 0.5)]
    for work in runs:
        while work.iteration < CONFIG.iterations:
            work.step()
        work.result()
    plain, averaged = (work.trained() for work in runs)
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in plain.items())


def test_relocated_gaussians_begin_new_averages(video):
    work = FitScene(video, CONFIG, "cpu")
    work.averages.add(work.trained())
    work.parameters.relocate(torch.tensor([0]), torch.tensor([1]))
    work._control_density([], 0.0)
    assert work.averages.samples == 0


def test_a_run_resumed_while_it_averages_ends_with_the_same_bits(video, tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    whole = m.result(fit_scene.run(video, CONFIG))
    stream = fit_scene.run(video, CONFIG, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 52:
            break
    stream.close()
    again = m.result(fit_scene.run(video, CONFIG, checkpoint=checkpoint))
    for name, tensor in {**whole.canonical.tensors(), **whole.deformation.tensors()}.items():
        same = {**again.canonical.tensors(), **again.deformation.tensors()}[name]
        assert torch.equal(tensor, same), name
