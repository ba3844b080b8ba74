"""A motion from outside the engine is chosen by name, trained, resumed and finished like the built-in ones."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.steps import fit_edits, fit_scene
from engine.train import motion
from tests.edit_scenes import edited_views, field_scene
from tests.scenes import Swing, capture_of, moving_scene
from tests.toy_motion import Drifting, DriftMotion

QUICK = fit_scene.Config(
    iterations=60,
    budget=170,
    initial_count=150,
    preview_every=0,
    sh_degree=0,
    coarse_fraction=0.2,
    background="white",
)


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


@pytest.fixture
def drift():
    motion.register("drift", DriftMotion.create)
    motion.register_trainer(Drifting.kind, DriftMotion.adopt)
    yield replace(QUICK, motion="drift")
    motion.unregister("drift")
    motion.unregister(Drifting.kind)


def tensors_of(scene):
    return {**scene.canonical.tensors(), **scene.deformation.tensors()}


def assert_same(a, b):
    first, second = tensors_of(a), tensors_of(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(t, second[name]) for name, t in first.items())


def test_a_motion_is_an_option_only_while_it_is_registered(drift):
    assert motion.NAMES[:5] == ["none", "small", "dnerf", "hypernerf", "dynerf"], "as graphs store them"
    assert motion.NAMES[-1] == "drift"
    with pytest.raises(ValueError, match="registered already"):
        motion.register("drift", DriftMotion.create)
    with pytest.raises(ValueError, match="a trainer already"):
        motion.register_trainer(Drifting.kind, DriftMotion.adopt)
    motion.unregister("drift")
    with pytest.raises(InputError, match="motion is 'drift'"):
        replace(QUICK, motion="drift")


@pytest.mark.parametrize("density", ["fixed budget", "adaptive", "none"])
def test_a_registered_motion_is_trained_and_resumed_with_the_same_bits(drift, video, tmp_path, density):
    config = replace(drift, density=density, budget=400)
    whole = m.result(fit_scene.run(video, config))
    assert isinstance(whole.deformation, Drifting) and bool(whole.deformation.velocity.any())
    assert len(whole.deformation.velocity) == len(whole.canonical)
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(video, config, checkpoint=checkpoint)
    next(x for x in stream if isinstance(x, m.Progress) and x.done == 41)
    stream.close()
    messages = list(fit_scene.run(video, config, checkpoint=checkpoint))
    assert next(x for x in messages if isinstance(x, m.Progress)).done == 42
    assert_same(whole, messages[-1].value)


def test_it_is_told_of_every_change_of_density(drift, video):
    """The coarse stage included; afterward each Gaussian still has one velocity."""
    config = replace(drift, iterations=210, budget=180)
    work = fit_scene.FitScene(video, config, "cpu")
    assert isinstance(work.motion, DriftMotion)
    counts = []
    for _ in range(210):
        before = len(work)
        work.step()
        if len(work) != before:
            counts.append(len(work))
    assert counts and work.motion.seen[-1] == counts[-1] and set(counts) <= set(work.motion.seen)


def test_values_trained_in_a_frame_of_the_motions_own_come_back_as_canonical_gaussians(drift, video):
    config = replace(drift, iterations=20, density="none")
    work = fit_scene.FitScene(video, config, "cpu")
    plain = fit_scene.FitScene(video, replace(config, motion="none"), "cpu")
    assert torch.allclose(
        work.parameters.tensors["means"] * DriftMotion.unit, plain.parameters.tensors["means"]
    )
    assert torch.allclose(work.gaussians_at(0).means, plain.gaussians_at(0).means), "in the coarse stage"
    assert torch.allclose(work.result().canonical.means, plain.result().canonical.means, atol=1e-6)
    for _ in range(config.iterations):
        work.step()
    made, seconds = work.result(), float(video.times[2])
    assert bool(made.deformation.velocity.any())
    assert torch.allclose(made.at(seconds).means, work.world.grow(work.gaussians_at(2)).means, atol=1e-5)


def test_a_motion_may_do_without_a_coarse_stage(drift, video):
    class Early(DriftMotion):
        has_coarse_stage = False

    motion.register("early", lambda start: Early(torch.zeros_like(start.canonical.means)))
    try:
        work = fit_scene.FitScene(video, replace(QUICK, motion="early"), "cpu")
        assert not work.is_coarse
        work.step()
        assert isinstance(work.motion, Early) and bool(work.motion.velocity.any())
    finally:
        motion.unregister("early")


def test_a_finished_deformation_from_outside_is_trained_on_by_an_edit(drift, tmp_path):
    """With densification, resumed with the same bits; the input's own stays as it was."""
    base = field_scene()
    velocity = 0.1 * torch.randn(len(base.canonical), 3, generator=torch.Generator().manual_seed(0))
    scene = base.with_(deformation=Drifting(velocity.clone()))
    views = edited_views(scene, (1, 2, 3, 5, 6, 7), moments=(2,))
    config = fit_edits.Config(iterations=110, preview_every=0, densifies=True, trains_deformation=True)
    whole = m.result(fit_edits.run(scene, views, config))
    assert torch.equal(scene.deformation.velocity, velocity)
    assert len(whole.canonical) == len(whole.deformation.velocity) > len(velocity)
    assert not torch.equal(whole.deformation.velocity[: len(velocity)], velocity)
    checkpoint = tmp_path / "edit.safetensors"
    stream = fit_edits.run(scene, views, config, checkpoint=checkpoint)
    next(x for x in stream if isinstance(x, m.Progress) and x.done == 105)
    stream.close()
    assert_same(whole, m.result(fit_edits.run(scene, views, config, checkpoint=checkpoint)))


def test_a_kind_without_a_trainer_has_nothing_to_train():
    base = field_scene(count=20)
    views = edited_views(base, (1, 2))
    config = fit_edits.Config(iterations=1, trains_deformation=True)
    for deformation in (Drifting(torch.zeros(20, 3)), Swing()):
        with pytest.raises(InputError, match="does not have trainable parameters"):
            next(fit_edits.run(base.with_(deformation=deformation), views, config))
