"""Training a latent field: it comes to show what the autoencoder sees, and what must not change does not."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.diffusion.loading import EMBEDDED, load
from engine.errors import InputError
from engine.latent import Drawing
from engine.steps import train_latents
from engine.steps.train_latents import TrainLatents
from tests.edit_scenes import render
from tests.latent_scenes import QUICK, Known, bits_of, changed, latents_of, small_scene, small_video, trained  # noqa: F401  # fixtures
from tests.scenes import capture_of, moving_scene
from tests.tiny_diffusion import tiny_backbone

HELD_OUT = 0


@pytest.fixture(scope="module")
def random_model():
    return tiny_backbone()


def error(field, model, scene, refined=True):
    """Mean squared error of a view that is not trained on, over all moments."""
    total = 0.0
    for moment in range(len(scene.times)):
        truth = model.encode(render(scene, HELD_OUT, moment)[None])
        total += float((latents_of(field, [HELD_OUT], moment, refined) - truth).square().mean())
    return total / len(scene.times)


def test_the_field_comes_to_show_what_the_autoencoder_sees_at_all_moments():
    """Measured on a view that is not trained on, where latents are small pictures: 2.5e-4 at the start (the fitted map), then
    5e-5."""
    scene, model = moving_scene(sh_degree=0), Known()
    video = capture_of(scene)
    start = TrainLatents(scene, model, QUICK, video, "cpu").result()
    field = trained(scene, model, video, iterations=120, preview_every=0, refiner="none", samples=4)
    before, after = error(start, model, scene), error(field, model, scene)
    assert after < 0.35 * before and after < 1e-4


def test_a_refined_field_is_nearer_than_an_unrefined_one(random_model):
    """The paper's ablation. A random autoencoder mixes neighbors as a trained one does; measured: 0.8 dB."""
    scene = moving_scene(count=120, views=5, moments=3, sh_degree=0)
    video = capture_of(scene)
    config = {
        "iterations": 60,
        "preview_every": 0,
        "refiner_lr": 3e-3,
        "images_per_step": 4,
        "resolution": 48,
    }
    field = trained(scene, random_model, video, **config)
    assert error(field, random_model, scene) < 0.9 * error(field, random_model, scene, refined=False)


def test_the_start_is_the_affine_map_of_colours_that_fits_best(scene):
    """The least model's latents are colors: features start as the Gaussians' colors, to the ridge."""
    still = scene.with_(canonical=scene.canonical.with_(sh=scene.canonical.sh[:, :1]))
    work = TrainLatents(still, Known(), QUICK, None, "cpu")
    colors = (still.canonical.sh[:, 0] * 0.28209479177387814 + 0.5).clamp(0, 1)
    torch.testing.assert_close(work.learned["features"][:, 0].detach(), colors, atol=0.05, rtol=0)
    torch.testing.assert_close(work.learned["background"].detach(), scene.background, atol=1e-5, rtol=0)


def test_the_refinement_layer_waits_for_the_warm_up(scene, video, random_model):
    config = replace(QUICK, iterations=10, warm_up=0.5, preview_every=0)
    messages = [x for x in train_latents.run(scene, random_model, config, video) if isinstance(x, m.Progress)]
    assert ["refined_error" in x.losses for x in messages] == 5 * [False] + 5 * [True]
    never = trained(scene, random_model, video, warm_up=1.0)
    assert float(never.refiner.conv_out.weight.abs().max()) == 0, "the identity"
    assert trained(scene, random_model, video, refiner="none").refiner is None


def test_scene_motion_and_video_are_not_changed(scene, video, random_model):
    before = {n: t.clone() for n, t in scene.canonical.tensors().items()}
    motion = {n: t.clone() for n, t in scene.deformation.tensors().items()}
    picture = video.source.read(1, 0).image.clone()
    field = trained(scene, random_model, video)
    assert all(torch.equal(t, before[n]) for n, t in scene.canonical.tensors().items())
    assert all(torch.equal(t, motion[n]) for n, t in scene.deformation.tensors().items())
    assert all(p.requires_grad and p.grad is None for p in scene.deformation.parameters())
    assert torch.equal(video.source.read(1, 0).image, picture)
    assert field.scene.deformation is scene.deformation and field.scene.canonical is scene.canonical
    parts = (random_model.unet, random_model.vae, random_model.text_encoder)
    assert all(p.grad is None for part in parts for p in part.parameters())
    tensors = [field.features, field.background, *field.refiner.parameters()]
    assert not any(t.requires_grad for t in tensors)


@pytest.mark.parametrize("stop", [2, 5])  # before the refinement layer learns, and after
def test_resumed_equals_uninterrupted(scene, video, random_model, tmp_path, stop):
    config = replace(QUICK, warm_up=0.5)
    whole = m.result(train_latents.run(scene, random_model, config, video))
    checkpoint = tmp_path / "latents.safetensors"
    stream = train_latents.run(scene, random_model, config, video, checkpoint=checkpoint)
    next(x for x in stream if isinstance(x, m.Progress) and x.done == stop)
    stream.close()
    assert checkpoint.is_file()
    messages = list(train_latents.run(scene, random_model, config, video, checkpoint=checkpoint))
    assert [x.done for x in messages if isinstance(x, m.Progress)] == list(range(stop + 1, 7))
    assert bits_of(whole) == bits_of(messages[-1].value)
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_training_is_not_resumed(scene, video, random_model, tmp_path):
    checkpoint = tmp_path / "latents.safetensors"
    work = TrainLatents(scene, random_model, QUICK, video, "cpu")
    work.step()
    work.save(checkpoint)
    others = {
        "model": TrainLatents(scene, tiny_backbone(seed=1), QUICK, video, "cpu"),
        "video": TrainLatents(scene, random_model, QUICK, None, "cpu"),
        "config": TrainLatents(scene, random_model, replace(QUICK, samples=3), video, "cpu"),
        "scene": TrainLatents(scene.with_(bounds=scene.bounds * 2), random_model, QUICK, video, "cpu"),
    }
    assert {name: other.resume(checkpoint) for name, other in others.items()} == dict.fromkeys(others, False)
    quiet = replace(QUICK, preview_every=1, max_seconds=9.0)
    assert TrainLatents(scene, random_model, quiet, video, "cpu").resume(checkpoint)


def test_same_seed_same_field_and_another_seed_another(scene, video, random_model):
    first, again, other = (trained(scene, random_model, video, seed=seed) for seed in (0, 0, 1))
    assert bits_of(first) == bits_of(again)
    assert changed(first, other) >= {"features", "refiner"}


def test_16_channels_and_other_factors_go_through_the_same_code(scene, video):
    for channels, factor, size in ((16, 8, (8, 8)), (4, 4, (16, 12))):
        model = tiny_backbone(latent_channels=channels, factor=factor)
        field = trained(scene, model, video, iterations=2)
        assert field.features.shape == (80, 1, channels) and field.background.shape == (channels,)
        drawn = latents_of(field, [0, 1], 2)
        assert drawn.shape[:2] == (2, channels)
        assert drawn.shape[2:] == torch.Size([field.size[1] // factor, field.size[0] // factor])
        assert max(field.size) == 64 and bool(torch.isfinite(drawn).all()), size


def test_latents_may_depend_on_the_viewing_direction(scene, video, random_model):
    field = trained(scene, random_model, video, depends_on_direction=True)
    assert field.features.shape == (80, 4, 4)
    assert float(field.features[:, 1:].abs().max()) > 0


def test_history_says_what_was_done(scene, video, random_model):
    field = trained(scene, random_model, video, scale_floor=0.5)
    entry = field.scene.history[-1]
    assert entry["step"] == "train_latents" and entry["iterations"] == 6
    assert entry["model"] == random_model.name and entry["originals"] == "captured"
    assert entry["refiner"]["width"] == 32 and entry["config"]["samples"] == 2
    assert "trained on captured images" in train_latents.summary(field)
    assert field.how == Drawing(2, 0.5) and field.vae.name == random_model.name
    assert field.before is None


def test_stream_tells_progress_previews_and_the_end(scene, video, random_model):
    messages = list(train_latents.run(scene, random_model, QUICK, video))
    assert [x.done for x in messages if isinstance(x, m.Progress)] == list(range(1, 7))
    previews = [x.image for x in messages if isinstance(x, m.Preview)]
    width, height = messages[-1].value.size
    assert len(previews) == 2 and all(p.shape == (height, 2 * width, 3) for p in previews)
    assert isinstance(messages[0], m.Started) and isinstance(messages[-1], m.Finished)


def test_test_views_are_not_learned_from_and_one_step_shows_one_moment(scene, video):
    work = TrainLatents(scene, Known(), replace(QUICK, images_per_step=3), video, "cpu")
    assert {view for view, _ in work.pairs} == {1, 2, 3} and len(work.pairs) == 3 * 4
    for step in range(10):
        moment, views = work.draw_pairs(work.pairs, work.moments, step)
        assert sorted(views) == [1, 2, 3] and 0 <= moment < 4
    few = TrainLatents(scene, Known(), replace(QUICK, moments="1 3"), video, "cpu")
    assert {moment for _, moment in few.pairs} == {1, 3}


def test_a_scene_that_was_edited_is_seen_as_it_is_now(scene, video):
    assert TrainLatents(scene, Known(), QUICK, video, "cpu").source == "captured"
    for step in ("fit_edits", "refine_score", "latents_to_scene"):
        edited = scene.with_history(step, prompt="make it night")
        assert TrainLatents(edited, Known(), QUICK, video, "cpu").source == "rendered", step


def test_bad_input_says_what_and_what_to_do(scene, video, random_model):
    with pytest.raises(InputError, match=r"resolution is 100.*multiple of 8, such as 104"):
        trained(scene, random_model, video, resolution=100)
    with pytest.raises(InputError, match="frame"):
        trained(scene, random_model, video, moments="9")
    with pytest.raises(InputError, match="no video"):
        trained(scene, random_model, None, originals="captured")
    with pytest.raises(InputError, match="does not have a middle block"):
        trained(scene, Known(), video, refiner="autoencoder")
    with pytest.raises(InputError, match="Connect the video"):
        trained(scene, random_model, capture_of(moving_scene(views=5)))
    with pytest.raises(InputError, match="refiner"):
        replace(QUICK, refiner="huge")


def test_the_number_of_threads_changes_no_bit(scene, video):
    """The bundled autoencoder and the fit of the start use several threads where they are not told otherwise."""
    before, made = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            field = trained(scene, load(EMBEDDED), video, iterations=2, resolution=64, preview_every=0)
            made.append([field.features, field.background, field.vae.card])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*made, strict=True))
