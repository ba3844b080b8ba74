"""From latents back to pictures, and from pictures back to an ordinary moving scene."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.scene import Selection
from engine.steps import EDITS, decode_latents, delta_edit, latents_to_scene
from engine.train.latent_views import Decoding
from engine.train.originals import choose_source
from tests.edit_scenes import psnr, render, truth_of
from tests.latent_scenes import (
    EDIT,
    KEEP,
    Known,
    latents_of,
    small_scene,  # noqa: F401  # fixtures
    trained,
)
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone

FIT = latents_to_scene.Config(iterations=6, preview_every=0)


@pytest.fixture(scope="module")
def known(scene):
    return trained(scene, Known(), refiner="none", iterations=60, samples=4, preview_every=0)


@pytest.fixture(scope="module")
def edited(known):
    return edit(known, iterations=60)


def edit(field, model=None, selection=None, **changes):
    config = delta_edit.Config(
        prompt=EDIT, source_prompt=KEEP, preview_every=0, min_timestep=0.3, max_timestep=0.6
    )
    return m.result(delta_edit.run(field, model or Known(), replace(config, **changes), selection))


def decode(field, model, **changes):
    return m.result(decode_latents.run(field, model, decode_latents.Config(**changes)))


# -- decoding ---------------------------------------------------------------------------------------------------------


def test_decoded_views_are_the_latents_decoded_beside_the_scenes_own_pictures(known, scene):
    views = decode(known, Known(), views="0 2", moments="1 3", background="as decoded")
    assert list(zip(views.views, views.moments, strict=True)) == [(0, 1), (2, 1), (0, 3), (2, 3)]
    assert views.seconds == tuple(float(scene.times[t]) for t in (1, 1, 3, 3))
    assert views.size == known.size == (48, 40)
    for i, (view, moment) in enumerate(zip(views.views, views.moments, strict=True)):
        picture = Known().decode(latents_of(known, [view], moment))[0].clamp(0, 1)
        torch.testing.assert_close(views.images[i], picture, atol=1e-6, rtol=0)
        shown = render(scene, view, moment).clamp(0, 1)
        torch.testing.assert_close(views.originals[i], shown, atol=1e-5, rtol=0)
    assert views.edit["prompt"] == "" and views.edit["latents"] == "as drawn"


def test_what_lies_behind_is_the_scenes_own_background(known, scene):
    field = known.with_(background=known.background * 0.5)  # a model that painted the wall
    own = decode(field, Known(), views="1")
    painted = decode(field, Known(), views="1", background="as decoded")
    empty = own.alphas[0] == 0
    assert bool(empty.any())
    torch.testing.assert_close(
        own.images[0][empty], scene.background.expand(int(empty.sum()), 3), atol=1e-5, rtol=0
    )
    assert float(painted.images[0][empty].mean()) < 0.8


def test_the_refinement_layer_is_left_out_where_asked(scene):
    model = tiny_backbone()
    field = trained(scene, model, warm_up=0.0, iterations=3)
    refined, raw = (decode(field, model, views="1", is_refined=flag) for flag in (True, False))
    assert refined.edit["latents"] == "refined" and raw.edit["latents"] == "as drawn"
    assert not torch.equal(refined.images, raw.images)


def test_detail_is_carried_from_the_originals_where_the_field_was_edited(known, edited):
    blurred = decode(edited, Known(), views="1", detail="as decoded")
    carried = decode(edited, Known(), views="1", detail="from originals")
    assert carried.edit["detail"] == "from originals" and blurred.edit["detail"] == "as decoded"
    truth = render(truth_of(known.scene).with_(background=known.scene.background), 1, 0)
    away = [float((views.images[0] - truth).square().mean()) for views in (carried, blurred)]
    assert away[0] < 0.7 * away[1], "an edit of colours, which a map of colours carries"
    keeps, loses = Known(), Known()
    keeps.defaults = replace(Known.defaults, keeps_detail=True)

    def carries(field, model, **changes):
        return Decoding(field, model, decode_latents.Config(**changes), "", "0").carries

    assert carries(edited, keeps) and not carries(edited, loses), "auto asks the model"
    assert not carries(known, keeps), "what was not edited is shown as it is"
    assert not carries(edited, keeps, detail="as decoded")


def test_a_moved_shape_stands_before_the_scenes_background_where_it_is_now(edited, scene):
    """Its coverage is that of the edited Gaussians, not of those before the edit."""
    moved = edited.scene.canonical.means + torch.tensor([0.0, 0.0, 0.7])
    shifted = edited.with_(scene=edited.scene.with_(canonical=edited.scene.canonical.with_(means=moved)))
    here, there = (
        Decoding(f, Known(), decode_latents.Config(background="scene"), "1", "0") for f in (edited, shifted)
    )
    assert here.moved is None and there.moved is not None
    for decoding in (here, there):
        list(decoding.stream())
    alphas = there._coverage(there.moved)[0]
    made = there.made()
    left = (alphas == 0) & (made.alphas[0] > 0.5)  # where it stood before
    assert int(left.sum()) > 20
    torch.testing.assert_close(
        made.images[0][left], scene.background.expand(int(left.sum()), 3), atol=0.02, rtol=0
    )
    torch.testing.assert_close(made.originals[0], render(scene, 1, 0).clamp(0, 1), atol=1e-5, rtol=0)


def test_decoding_changes_nothing_and_streams(edited):
    before = edited.features.clone()
    messages = list(decode_latents.run(edited, Known(), decode_latents.Config(views="0 1")))
    assert [type(x) for x in messages[:3]] == [m.Started, m.Progress, m.Preview]
    assert [x.done for x in messages if isinstance(x, m.Progress)] == [1, 2]
    assert all(x.image.shape == (40, 48, 3) for x in messages if isinstance(x, m.Preview))
    assert torch.equal(edited.features, before)
    assert messages[-1].value.edit["prompt"] == EDIT


# -- back to a scene --------------------------------------------------------------------------------------------------


def test_an_edited_field_becomes_an_ordinary_scene_near_the_truth(known, edited, scene, tmp_path):
    """A field of 48×40 pictures as 12×10 latents; views and moments that nobody decoded. Measured: 21.6 dB, then 28.7."""
    config = replace(FIT, iterations=150, views="0 1 3", moments="0 3")
    made = m.result(latents_to_scene.run(edited, Known(), config))
    truth = truth_of(scene).with_(background=scene.background)
    before, after = (psnr(s, truth, (0, 2), (1, 2)) for s in (scene, made))
    assert after > before + 5
    assert made.deformation is scene.deformation, "the very motion"
    names = {
        n for n, t in made.canonical.tensors().items() if not torch.equal(t, getattr(scene.canonical, n))
    }
    assert names == {"sh"}, "the field's geometry is kept"
    steps = [entry["step"] for entry in made.history]
    assert steps == ["train_latents", "delta_edit", "latents_to_scene"]
    assert made.history[-1]["prompt"] == EDIT and made.history[-1]["moments"] == [0, 0, 0, 3, 3, 3]
    again = load_scene(save_scene(made, tmp_path / "edited.safetensors"))
    for name, tensor in made.canonical.tensors().items():
        assert torch.equal(tensor, again.canonical.tensors()[name]), name
    for name, tensor in made.deformation.tensors().items():
        assert torch.equal(tensor, again.deformation.tensors()[name]), name
    assert again.history == made.history
    assert torch.equal(render(again, 2, 1), render(made, 2, 1))


def test_a_freed_shape_is_the_scenes_shape(known):
    freed = edit(known, iterations=3, frees="shape")
    made = m.result(latents_to_scene.run(freed, Known(), FIT))
    assert torch.equal(made.canonical.means, freed.scene.canonical.means)
    assert not torch.equal(made.canonical.means, known.scene.canonical.means)
    assert made.deformation is known.scene.deformation


def test_gaussians_outside_the_mask_keep_their_bits(edited, scene):
    weights = (scene.canonical.means[:, 2] > 0).float()
    made = m.result(latents_to_scene.run(edited, Known(), FIT, Selection(weights)))
    outside = weights == 0
    for name, tensor in made.canonical.tensors().items():
        assert torch.equal(tensor[outside], getattr(scene.canonical, name)[outside]), name
    assert bool((made.canonical.sh[~outside] != scene.canonical.sh[~outside]).any())


def test_16_channels_go_all_the_way_and_back(scene):
    model = tiny_backbone(latent_channels=16)
    field = trained(scene, model, iterations=2)
    done = edit(field, model, iterations=2)
    views = decode(done, model, views="1")
    assert views.images.shape == (1, field.size[1], field.size[0], 3)
    made = m.result(latents_to_scene.run(done, model, replace(FIT, iterations=2, views="0 1", moments="0")))
    assert not torch.equal(made.canonical.sh, scene.canonical.sh)
    assert all(bool(torch.isfinite(t).all()) for t in made.canonical.tensors().values())


def test_resumed_equals_uninterrupted(edited, tmp_path):
    whole = m.result(latents_to_scene.run(edited, Known(), FIT))
    checkpoint = tmp_path / "scene.safetensors"
    stream = latents_to_scene.run(edited, Known(), FIT, checkpoint=checkpoint)
    # all views of four moments, decoded before the first step, and the model's own edit in four steps
    pictures = 4 * 4 + Known.defaults.steps
    next(x for x in stream if isinstance(x, m.Progress) and x.done == pictures + 4)
    stream.close()
    assert checkpoint.is_file()
    messages = list(latents_to_scene.run(edited, Known(), FIT, checkpoint=checkpoint))
    done = [x.done for x in messages if isinstance(x, m.Progress)]
    assert done == [*range(1, pictures + 1), pictures + 5, pictures + 6]
    assert messages[0].total == pictures + FIT.iterations
    assert torch.equal(whole.canonical.sh, messages[-1].value.canonical.sh)
    assert not checkpoint.exists()


def test_moments_are_spread_over_the_clip():
    assert latents_to_scene.spread(30) == "0 10 19 29"
    assert latents_to_scene.spread(2) == "0 1" and latents_to_scene.spread(1) == "0"


def test_an_edited_scene_is_not_taken_for_the_captured_one(edited, scene):
    made = m.result(latents_to_scene.run(edited, Known(), replace(FIT, iterations=1, views="0", moments="0")))
    pairs = [(1, 0)]
    video = capture_of(scene)
    assert choose_source("auto", scene, video, pairs, EDITS)[0] == "captured"
    assert choose_source("auto", made, video, pairs, EDITS)[0] == "rendered"


def test_bad_input_says_what_and_what_to_do(known, edited):
    other = tiny_backbone(latent_channels=3, factor=4)
    for step in (decode_latents, latents_to_scene):
        with pytest.raises(InputError, match="uses a different VAE"):
            next(step.run(edited, other, step.Config()))
        with pytest.raises(InputError, match="3 channels at 1/4"):
            next(step.run(edited, tiny_backbone(), step.Config()))
        with pytest.raises(InputError, match="view"):
            next(step.run(edited, Known(), step.Config(views="4")))
        with pytest.raises(InputError, match="frame"):
            next(step.run(edited, Known(), step.Config(moments="0 9")))
    with pytest.raises(InputError, match="lift it again"):
        m.result(latents_to_scene.run(edited, Known(), FIT, Selection(torch.ones(3))))
    with pytest.raises(InputError, match="no video"):
        next(decode_latents.run(known, Known(), decode_latents.Config(originals="captured")))
