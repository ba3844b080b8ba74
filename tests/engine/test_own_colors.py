"""Colors of decoded latents, matched to the model's own edit."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.color import color_map
from engine.errors import InputError
from engine.scene import Selection
from engine.steps import delta_edit, latents_to_scene
from engine.train.latent_views import Decoding, DecodingConfig
from engine.train.own_colors import IMAGES, obstacle, own_colors
from tests.edit_scenes import edited as edit_of
from tests.edit_scenes import field_scene, psnr, truth_of
from tests.latent_scenes import EDIT, KEEP, Known, trained

FIT = latents_to_scene.Config(iterations=60, preview_every=0, views="0 1 3", moments="0 3")
# what a drifting delta edit does to latents, which are colors here
DRIFT = torch.tensor([1.3, 0.8, 0.6])


@pytest.fixture(scope="module")
def scene():
    return field_scene(count=80, views=4, moments=4)


@pytest.fixture(scope="module")
def field(scene):
    return trained(scene, Known(), refiner="none", iterations=60, samples=4, preview_every=0)


@pytest.fixture(scope="module")
def drifted(field):
    made = delta(field, iterations=60)
    return made.with_(features=made.features * DRIFT)


def delta(field, selection=None, **changes):
    config = delta_edit.Config(
        prompt=EDIT, source_prompt=KEEP, preview_every=0, min_timestep=0.3, max_timestep=0.6
    )
    return m.result(delta_edit.run(field, Known(), replace(config, **changes), selection))


def colors(*shape, seed=0):
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))


def decoded(field, matching="own edits", selection=None):
    """The decoded views before and after matching, and what matched them."""
    decoding = Decoding(field, Known(), DecodingConfig(), "0 1 3", "0 3")
    match, note = own_colors(decoding, matching, selection, latents_to_scene.DeltaEditAgain)
    assert match is not None, note
    assert len(list(decoding.stream())) and len(list(match.stream())) == match.total
    before = decoding.made()
    return before, match.matched(before), match


# -- the map of colors ------------------------------------------------------------------------------------------------


def test_after_matching_the_statistics_agree():
    """Means, and the covariance with the reference: no color of the images explains what is left of the difference."""
    images, weights = colors(2, 9, 11), torch.ones(2, 9, 11)
    reference = (edit_of(images) + 0.1 * colors(2, 9, 11, seed=1)).sqrt()
    made = color_map(images, reference, weights)(images)
    flat, left = images.reshape(-1, 3), (reference - made).reshape(-1, 3)
    assert float(left.mean(dim=0).abs().max()) < 1e-6
    crossed = (flat - flat.mean(dim=0)).T @ left / len(left)
    before = (flat - flat.mean(dim=0)).T @ (reference - images).reshape(-1, 3) / len(left)
    assert float(crossed.abs().max()) < 0.01 * float(before.abs().max())


def test_an_affine_change_of_colors_is_undone():
    images = colors(1, 20, 20)
    reference = edit_of(images) + 0.05
    made = color_map(images, reference, torch.ones(1, 20, 20))(images)
    torch.testing.assert_close(made, reference, atol=2e-3, rtol=0)


def test_pixels_without_weight_have_no_say():
    images, reference = colors(1, 8, 8), colors(1, 8, 8, seed=1)
    weights = (colors(1, 8, 8, seed=2)[..., 0] > 0.5).float()
    other = torch.where(weights[..., None] > 0, reference, 100.0)
    for a, b in ((images, other), (torch.where(weights[..., None] > 0, images, -7.0), reference)):
        made, expected = color_map(a, b, weights), color_map(images, reference, weights)
        torch.testing.assert_close(made.matrix, expected.matrix)
        torch.testing.assert_close(made.offset, expected.offset)


def test_gray_stays_gray():
    gray = colors(1, 8, 8)[..., :1].expand(-1, -1, -1, 3)
    made = color_map(gray, 0.2 + 0.5 * gray, torch.ones(1, 8, 8))(gray)
    torch.testing.assert_close(made, made[..., :1].expand_as(made), atol=1e-6, rtol=0)
    torch.testing.assert_close(made, 0.2 + 0.5 * gray, atol=2e-3, rtol=0)


def test_images_that_agree_already_stay_as_they_are():
    images = colors(2, 8, 8)
    torch.testing.assert_close(color_map(images, images, torch.ones(2, 8, 8))(images), images)
    one = torch.full((1, 4, 4, 3), 0.3)
    torch.testing.assert_close(color_map(one, one, torch.ones(1, 4, 4))(one), one)


def test_a_single_color_becomes_the_other_and_none_changes_nothing():
    one, other = torch.full((1, 4, 4, 3), 0.3), torch.full((1, 4, 4, 3), 0.7)
    torch.testing.assert_close(color_map(one, other, torch.ones(1, 4, 4))(one), other)
    assert torch.equal(color_map(one, other, torch.zeros(1, 4, 4))(one), one)


# -- in the step ------------------------------------------------------------------------------------------------------


def test_a_drifted_hue_comes_back(drifted, scene):
    truth = truth_of(scene).with_(background=scene.background)
    found = {}
    for matching in ("none", "auto"):
        made = m.result(
            latents_to_scene.run(drifted, Known(), replace(FIT, iterations=150, matching=matching))
        )
        found[matching] = psnr(made, truth, (0, 2), (1, 2)), made
    assert found["auto"][0] > found["none"][0] + 1.5
    made, entry = found["auto"][1], found["auto"][1].history[-1]
    assert entry["note"].startswith(f"colors matched to the model's own edit of {IMAGES} images")
    assert entry["note"] in latents_to_scene.summary(made) and entry["edit"]["colors"] == "own edits"
    assert "note" not in found["none"][1].history[-1]
    assert torch.equal(made.canonical.means, scene.canonical.means)


def test_the_background_stays_as_it_is(drifted, scene):
    before, after, match = decoded(drifted)
    empty = before.alphas == 0
    assert bool(empty.any()) and torch.equal(before.images[empty], after.images[empty])
    assert not torch.equal(before.images[~empty], after.images[~empty])
    assert torch.equal(before.originals, after.originals) and before.views == after.views
    assert match.editing.edit.calls > 0


def test_what_a_mask_leaves_out_stays_as_it_is(field, scene):
    weights = (scene.canonical.means[:, 2] > 0).float()
    made = delta(field, Selection(weights), iterations=3)
    before, after, match = decoded(made, selection=Selection(weights))
    free = match._covered(before) == 0
    shown = before.alphas > 0.5
    assert bool((free & shown).any()) and torch.equal(before.images[free], after.images[free])
    assert not torch.equal(before.images, after.images)
    nothing = Selection(torch.zeros(len(scene.canonical)))
    before, after, match = decoded(made, selection=nothing)
    assert after is before and "do not show the selection" in match.note


def test_models_of_many_steps_are_asked_only_where_it_was_set(drifted):
    slow = Known()
    slow.defaults = replace(Known.defaults, steps=20)
    decoding = Decoding(drifted, slow, DecodingConfig(), "0", "0")
    assert own_colors(decoding, "auto", None, latents_to_scene.DeltaEditAgain) == (None, "")
    assert own_colors(decoding, "none", None, latents_to_scene.DeltaEditAgain) == (None, "")
    asked, _ = own_colors(decoding, "own edits", None, latents_to_scene.DeltaEditAgain)
    assert asked is not None and asked.total == 20


def test_what_cannot_be_matched_is_said(field, drifted, scene):
    some = Selection((scene.canonical.means[:, 2] > 0).float())
    cases = {
        "was not edited": (field, Known()),
        "more than once": (delta(drifted, iterations=1), Known()),
        "limited to a selection": (delta(field, some, iterations=1), Known()),
        "moved Gaussians": (delta(field, iterations=2, frees="shape"), Known()),
        "did not show the model": (drifted.with_history("delta_edit", looks_at="nothing"), Known()),
    }
    # captions: the one edit that there is
    captions = cases["did not show the model"][0].scene
    kept = tuple(e for e in captions.history if e.get("looks_at") in (None, "nothing"))
    last = drifted.with_(scene=replace(captions, history=kept))
    cases["did not show the model"] = (last, Known())
    for reason, (given, model) in cases.items():
        config = replace(FIT, iterations=1, views="0", moments="0")
        with pytest.raises(InputError, match=reason) as error:
            next(latents_to_scene.run(given, model, replace(config, matching="own edits")))
        assert error.value.code == "TRN-048" and "Set match colors to auto or none" in str(error.value)
        made = m.result(latents_to_scene.run(given, model, config))
        note = made.history[-1].get("note", "")
        assert (reason in note) == (reason != "was not edited"), "nothing was edited: nothing to say"
    decoding = Decoding(delta(field, some, iterations=1), Known(), DecodingConfig(), "0", "0")
    assert obstacle(decoding, some, "delta_edit") == ""


def test_nothing_is_edited_for_a_blend_of_zero(drifted):
    messages = list(latents_to_scene.run(drifted, Known(), replace(FIT, strength=0.0)))
    assert "matched" not in str(messages[-1].value.history)
