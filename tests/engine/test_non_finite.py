"""NaN and infinity end in a sentence and leave the last good checkpoint; torch's grid_sample ends the process instead."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import messages as m
from engine.deform import HexPlane, HexPlaneConfig
from engine.errors import InputError
from engine.finite import is_finite
from engine.io.scene_file import load_scene, save_scene
from engine.steps import fit_scene
from engine.train.loop import optimize, resume
from tests.edit_scenes import edited_views, field_scene
from tests.scenes import capture_of, moving_scene

ROOT = Path(__file__).resolve().parents[2]
CONFIG = HexPlaneConfig(4, (5, 6, 7, 8), (1, 2), 1, 16, ("position", "rotation"), time_range=(0.0, 1.5))
QUICK = fit_scene.Config(iterations=12, budget=200, initial_count=100, sh_degree=0, coarse_fraction=0.2)


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


def field(box=((1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)), config=CONFIG):
    return HexPlane(config, torch.tensor(box), torch.Generator().manual_seed(0), zero_init=False)


def test_coordinates_that_are_no_numbers_end_no_process():
    # a process of its own: where the guard is missing it dies of a segmentation fault
    code = """
import torch
from dataclasses import replace
from engine.errors import InputError
from tests.engine.test_non_finite import CONFIG, field

for resolution in (CONFIG.resolution, (1, 1, 1, 1)):
    for bad in (float("nan"), float("inf"), float("-inf"), 3e38):
        motion = field(((0.5,) * 3, (-0.5,) * 3), replace(CONFIG, resolution=resolution))
        means = torch.rand(500, 3) - 0.5
        means[::7, 1] = bad
        means.requires_grad_()
        try:
            motion.features(means, [0.3]).sum().backward()
            raise SystemExit(f"{bad} was let through")
        except InputError as error:
            assert "72 of 500 Gaussians" in str(error), error
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr[-2000:]


def test_far_coordinates_are_clamped_to_the_border_as_before():
    means = torch.tensor([[1e30, -1e30, 0.0], [2.0, -2.0, 0.0]], requires_grad=True)
    features = field().features(means, [0.3])
    features.sum().backward()
    assert torch.equal(features[:, 0], features[:, 1])
    assert is_finite(means.grad)


@pytest.mark.parametrize("size", [3e38, 1e-40])
def test_a_scene_whose_box_overflows_is_refused_when_it_is_opened(size, tmp_path):
    scene = moving_scene(40, views=3)
    path = save_scene(scene.with_(deformation=field()), tmp_path / "scene.safetensors")
    assert load_scene(path).deformation.kind == "hexplane"
    motion = field()
    motion.aabb.mul_(size)
    save_scene(scene.with_(deformation=motion), path)
    with pytest.raises(InputError, match=r"scene\.safetensors: HexPlane: the box .* too small or too large"):
        load_scene(path)


@pytest.mark.parametrize("span", [(-1.7e308, 1.7e308), (0.0,), (0.0, float("nan"))])
def test_times_that_overflow_are_refused(span):
    with pytest.raises(InputError, match="time_range"):
        replace(CONFIG, time_range=span)


def test_the_shortest_time_range_is_looked_up_at_its_ends():
    motion = field(config=replace(CONFIG, time_range=(0.0, 5e-324), resolution=(5, 6, 7, 1)))
    assert is_finite(motion.features(torch.rand(10, 3), [0.0, 1.0]))


@pytest.mark.parametrize(
    "words", ["0 0 0 1e-40 1e-40 1e-40", "0 0 0 1e30 1e30 1e30", "1e9 0 0 1000000001 1 1"]
)
def test_bounds_that_float32_cannot_hold_are_refused(video, words):
    with pytest.raises(InputError, match="subject's box"):
        next(fit_scene.run(video, replace(QUICK, bounds=words)))


class Failing(fit_scene.FitScene):
    """A training in which one tensor turns NaN at one step, as it does where a gradient overflows."""

    at, of = 8, "means"

    def _step(self):
        losses = super()._step()
        if self.iteration == self.at:
            with torch.no_grad():
                # some tensors are views whose flat form is a copy
                tensor = self.trained()[self.of]
                tensor[(0,) * tensor.ndim] = float("nan")
        return losses


def run_on(run, checkpoint):
    resume(run, checkpoint)
    for message in optimize(run, run.config, "", checkpoint):
        if isinstance(message, m.Progress):
            yield message.done


@pytest.mark.parametrize("of", ["means", "logit_opacities", "grids.0.3", "output.position.weight"])
def test_a_step_that_leaves_nan_is_named_and_not_saved(of, video, tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    first = run_on(fit_scene.FitScene(video, QUICK, "cpu"), checkpoint)
    while next(first) < 5:
        pass
    first.close()
    good = checkpoint.read_bytes()
    failing = Failing(video, QUICK, "cpu")
    failing.of = of
    with pytest.raises(InputError, match=rf"Step 8 produced NaN .* '{re.escape(of)}'"):
        list(run_on(failing, checkpoint))
    assert checkpoint.read_bytes() == good
    again = run_on(fit_scene.FitScene(video, QUICK, "cpu"), checkpoint)
    assert next(again) == 6, "the last good state is still resumed from"


def test_what_chokes_on_nan_within_the_step_is_said_the_same_way(video):
    class Choking(Failing):
        def _step(self):
            super()._step()
            if self.iteration == self.at:
                # as density control does
                torch.multinomial(self.parameters.tensors["means"][:, 1].detach().abs(), 1)
            return {}

    with pytest.raises(InputError, match="Step 8 produced NaN"):
        list(run_on(Choking(video, QUICK, "cpu"), None))


def damage_nan(tensors):
    tensors["gaussians.means.value"][3] = float("nan")


def damage_shape(tensors):
    # torch's fused Adam would read beyond it
    tensors["gaussians.means.exp_avg"] = torch.zeros(1, 3)


def damage_missing(tensors):
    del tensors["gaussians.quats.value"]


@pytest.mark.parametrize("damage", [damage_nan, damage_shape, damage_missing])
def test_a_damaged_checkpoint_is_named_and_the_remedy_too(damage, video, tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    run = fit_scene.FitScene(video, QUICK, "cpu")
    run.step()
    run.save(checkpoint)
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        header = file.metadata()
    tensors = load_file(checkpoint)
    damage(tensors)
    save_file(tensors, checkpoint, metadata=header)
    with pytest.raises(InputError, match=r"training\.safetensors .* delete it"):
        next(fit_scene.run(video, QUICK, checkpoint=checkpoint))


def test_an_edit_of_a_scene_with_a_center_that_is_no_number_ends_in_a_sentence():
    from engine.steps import fit_edits

    scene = field_scene()
    views = edited_views(scene, (1, 2))
    means = scene.canonical.means.clone()
    means[5, 0] = float("nan")
    broken = scene.with_(canonical=scene.canonical.with_(means=means))
    with pytest.raises(InputError, match="NaN"):
        m.result(fit_edits.run(broken, views, fit_edits.Config(iterations=2)))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.float64, torch.float8_e4m3fn, torch.int64]
)
def test_finite_is_told_from_nan_infinity_and_a_sum_that_overflows(dtype):
    assert is_finite(torch.full((4,), 300.0).to(dtype))
    if dtype.is_floating_point:
        assert is_finite(torch.full((400,), torch.finfo(dtype).max, dtype=dtype))
        assert not is_finite(torch.tensor([1.0, float("nan")]).to(dtype))
    if dtype in (torch.float32, torch.float16):
        assert not is_finite(torch.tensor([float("inf"), float("-inf")]).to(dtype))
