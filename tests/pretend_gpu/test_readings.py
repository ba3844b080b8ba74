"""What the training loop reads from a GPU, and what it does where NaN is noticed steps later."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.steps.fit_scene import Config, FitScene
from engine.train.loop import READ_EVERY, optimize
from tests.pretend_gpu.device import MixedDevices, PretendGPU
from tests.pretend_gpu.rasterizer import rasterizer_on
from tests.scenes import capture_of, moving_scene

CONFIG = Config(iterations=25, budget=60, initial_count=50, sh_degree=0, coarse_fraction=0.1, preview_every=0)


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene(40, views=3, moments=3))


@pytest.fixture
def gpu() -> Generator[PretendGPU]:
    with PretendGPU() as made, rasterizer_on(made):
        yield made


class Fit(FitScene):
    """Keeps its losses, and turns NaN after the step `bad`."""

    bad = 0

    def step(self):
        losses = super().step()
        self.seen = {**getattr(self, "seen", {}), self.iteration: losses}
        if self.iteration == self.bad:
            with torch.no_grad():
                self.parameters.tensors["means"].fill_(float("nan"))
        return losses

    def result(self):
        return None


def progress(run, checkpoint=None, clock=time.monotonic):
    stream = optimize(run, run.config, "", checkpoint, clock)
    yield from ((stream, message) for message in stream if isinstance(message, m.Progress))


def test_losses_are_those_of_the_step_that_was_read_last(gpu, video):
    run = Fit(video, CONFIG, "cuda")
    read = {1: 1, 11: 11, 21: 21, 25: 25}
    for _, message in progress(run):
        step = read.setdefault(message.done, read.get(message.done - 1, 0))
        wanted = {name: float(loss) for name, loss in run.seen[step].items()}
        assert message.losses == pytest.approx(wanted), message.done
    assert READ_EVERY == 10


def test_a_preview_brings_losses_up_to_date(gpu, video):
    run = Fit(video, replace(CONFIG, iterations=9, preview_every=4), "cuda")
    losses = {message.done: message.losses for _, message in progress(run)}
    assert losses[4] == pytest.approx({name: float(loss) for name, loss in run.seen[4].items()})
    assert losses[4] == losses[5] != losses[3]


def test_nan_is_noticed_at_the_next_reading_and_the_steps_are_named(gpu, video):
    run = Fit(video, CONFIG, "cuda")
    run.bad = 13
    with pytest.raises(InputError, match=r"One of the steps 12 to 21 produced NaN .* 'means'"):
        list(progress(run))


def test_what_was_closed_before_it_was_read_is_not_saved_where_it_is_nan(gpu, video, tmp_path):
    path = tmp_path / "training.safetensors"
    run = Fit(video, CONFIG, "cuda")
    run.bad = 13
    for stream, message in progress(run, path):
        if message.done == 15:
            stream.close()
    assert not path.exists()
    whole = Fit(video, CONFIG, "cuda")
    for stream, message in progress(whole, path):
        if message.done == 15:
            stream.close()
    assert path.exists()


def test_a_save_that_is_due_reads_first(gpu, video, tmp_path):
    path = tmp_path / "training.safetensors"
    config = replace(CONFIG, checkpoint_seconds=1.0)
    run = Fit(video, config, "cuda")
    run.bad = 3
    with pytest.raises(InputError, match="Step 3 produced NaN"):
        list(progress(run, path, itertools.count(0, 2).__next__))
    resumed = Fit(video, config, "cuda")
    assert resumed.resume(path) and resumed.iteration == 2


def test_the_pretend_gpu_refuses_what_a_real_one_refuses(gpu):
    here = torch.ones(3, device="cuda")
    with pytest.raises(MixedDevices):
        here + torch.ones(3)
    with pytest.raises(MixedDevices):
        torch.ones(3)[here.long()]
    with pytest.raises(TypeError, match="numpy"):
        here.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())
    assert (here + torch.tensor(1.0)).device == torch.device("cuda", 0)
    assert here.to("cuda") is here and here.cpu().device.type == "cpu"


@pytest.mark.parametrize(
    ("reads", "waits"),
    [
        (lambda t: float(t.sum()), 1),
        (lambda t: bool((t > 0).all()), 1),
        (lambda t: t.tolist(), 1),
        (lambda t: t.cpu(), 1),
        (lambda t: t.nonzero(), 1),
        (lambda t: t[t > 0], 1),
        (lambda t: t[[0, 1]], 1),
        (lambda t: torch.ones(3).to(t), 1),
        (lambda t: torch.tensor([1.0, 2.0], device="cuda"), 1),
        (lambda t: torch.ones(3).to(t, non_blocking=True), 0),
        (lambda t: torch.where(t > 0, t, 0.0) + 1, 0),
        (lambda t: torch.stack([t[0], t[2]]), 0),
    ],
)
def test_waits_are_counted(gpu, reads, waits):
    here = torch.ones(3, device="cuda")
    gpu.reset()
    reads(here)
    assert gpu.waits.total() == waits
