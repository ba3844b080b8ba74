"""Keeping parts of the originals in an edit: exact where the mask is 1, and without effect elsewhere."""

import itertools
from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.diffusion import ModelDefaults
from engine.errors import InputError
from engine.guidance.classifier_free import Guidance
from engine.guidance.edit import Edit, EditRequest, edit_pictures
from engine.guidance.inpaint import Keep, KeepRequest, Move, fitted, moves
from engine.scene import Selection
from engine.steps import edit_views
from tests.engine.test_edit_views import Darkening
from tests.engine.test_guidance import pictures
from tests.scenes import moving_scene
from tests.tiny_diffusion import tiny_backbone

ASKED = EditRequest(Guidance("make it night", 3.0, 1.5), steps=5)
# core 1 in 3×3 latents of 8 pixels, rows and columns 2 to 4
MASKS = torch.zeros(2, 64, 64)
MASKS[:, 16:40, 16:40] = 1


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


class Pointwise(Darkening):
    """Its network sees each latent alone and answers with something that depends on it."""

    defaults = ModelDefaults(steps=5, resolution=64)

    def predict(self, noisy, t, text, condition=None, sharing=None):
        return torch.sin(3 * noisy) + 0.3 * condition


def finished(edit: Edit) -> Edit:
    """Run to the end, keeping the last latents."""
    decode = edit.encoded.decode
    edit.last = None

    def kept(latents):
        edit.last = latents
        return decode(latents)

    edit.encoded.decode = kept
    while not edit.is_finished:
        edit.step()
    return edit


@pytest.mark.parametrize("keep", [KeepRequest(), KeepRequest(0.0), KeepRequest(jump=2, repeats=2)])
@pytest.mark.parametrize("attention", ["keyframe", "vanilla"])
def test_kept_latents_are_the_originals_exactly(backbone, keep, attention):
    originals = pictures(2, 64, 64)
    edit = finished(Edit(backbone, originals, replace(ASKED, keep=keep, attention=attention), keep=MASKS))
    z0 = backbone.scaled(torch.cat([backbone.encode_image_latents(x[None]) for x in originals]))
    assert torch.equal(edit.last[:, :, 2:5, 2:5], z0[:, :, 2:5, 2:5])
    assert float((edit.last - z0).abs()[:, :, :, 6:].max()) > 0.1


@pytest.mark.parametrize("keep", [KeepRequest(), KeepRequest(way="soft"), KeepRequest(0.2, 0.7)])
def test_nothing_changes_outside_for_a_pointwise_model(keep):
    originals, asked = pictures(2, 64, 64), replace(ASKED, keep=keep)
    with_keep = finished(Edit(Pointwise(), originals, asked, keep=MASKS)).last
    without = finished(Edit(Pointwise(), originals, asked)).last
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[1:6, 1:6] = False
    assert torch.equal(with_keep[:, :, outside], without[:, :, outside])
    assert float((with_keep - without).abs()[:, :, 2:5, 2:5].max()) > 1e-3
    assert torch.equal(outside, Keep(MASKS, 8, keep).latents[0, 0] == 0)


def test_the_rim_is_one_latent_wide_and_soft():
    latents = Keep(MASKS, 8, KeepRequest()).latents[0, 0]
    assert torch.equal(latents[2:5, 2:5], torch.ones(3, 3))
    rim = latents[1, 1:6]
    assert float(rim.min()) > 0 and float(rim.max()) < 1
    half = torch.zeros(1, 64, 64)
    half[0, 8:16, 12:20] = 1
    half[0, 32:40, 33:36] = 1
    assert Keep(half, 8, KeepRequest()).core.nonzero()[:, 2:].tolist() == [[1, 1], [1, 2]]


def test_shares_within_the_window():
    hard, soft = KeepRequest(0.4, 0.8), KeepRequest(0.4, 0.8, "soft")
    assert [hard.share(i, 5) for i in range(6)] == [0, 0, 1, 1, 1, 0]
    assert [soft.share(i, 5) for i in range(6)] == pytest.approx([0, 0, 0, 0.5, 1, 0])
    assert KeepRequest(1.0, 1.0, "soft").share(5, 5) == 1


def test_resampling_runs_blocks_of_the_window_again():
    assert moves(3) == [Move(0), Move(1), Move(2)]
    again = moves(5, KeepRequest(0.4, 1.0, jump=2, repeats=2))
    assert [(move.level, move.noised_from) for move in again] == [
        (0, None),
        (1, None),
        (2, None),
        (1, 3),
        (2, None),
        (3, None),
        (4, None),
        (3, 5),
        (4, None),
    ]
    assert len(moves(5, KeepRequest(0.4, 1.0, jump=2, repeats=3))) == 5 + 2 * 2 * 2
    assert len(moves(5, KeepRequest(0.4, 1.0, jump=9, repeats=3))) == 5


def test_resampling_changes_the_edit_and_costs_its_steps(backbone):
    originals = pictures(2, 64, 64)
    once = Edit(backbone, originals, ASKED, keep=MASKS)
    again = Edit(backbone, originals, replace(ASKED, keep=KeepRequest(jump=2, repeats=2)), keep=MASKS)
    assert (once.total, again.total) == (5, 9)
    assert float((finished(once).last - finished(again).last).abs().max()) > 1e-3
    without = Edit(backbone, originals, replace(ASKED, keep=KeepRequest(jump=2, repeats=2)))
    assert without.total == 5, "without a mask nothing is resampled"


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_resumed_equals_uninterrupted(backbone, stop):
    originals = pictures(2, 64, 64)
    asked = replace(ASKED, keep=KeepRequest(jump=2, repeats=2), frames_at_once=1, attention="vanilla")
    whole, first, second = (Edit(backbone, originals, asked, keep=MASKS) for _ in range(3))
    for _ in range(stop):
        first.step()
    tensors, numbers = first.state()
    second.load_state({name: t.clone() for name, t in tensors.items()}, numbers)
    assert torch.equal(finished(second).images, finished(whole).images)


def test_a_soft_mask_keeps_less_than_a_hard_one_and_an_early_window_more(backbone):
    originals = pictures(2, 64, 64)

    def apart(**changed):
        asked = replace(ASKED, keep=KeepRequest(**changed))
        edited = edit_pictures(backbone, originals, asked, keep=MASKS)
        return float((edited - originals)[:, 20:36, 20:36].abs().mean())

    alone = float((edit_pictures(backbone, originals, ASKED) - originals)[:, 20:36, 20:36].abs().mean())
    assert apart() < 0.9 * alone
    assert apart(end=0.6) > apart()


def test_the_composite_is_the_original_inside_and_off_by_default(backbone):
    originals = pictures(2, 64, 64)
    plain = edit_pictures(backbone, originals, ASKED, keep=MASKS)
    inside = MASKS > 0
    assert not torch.equal(plain[inside], originals[inside])
    blended = edit_pictures(backbone, originals, replace(ASKED, keep=KeepRequest(feather=6)), keep=MASKS)
    assert torch.equal(blended[inside], originals[inside])
    far = torch.ones(64, 64, dtype=torch.bool)
    far[9:47, 9:47] = False
    assert torch.equal(blended[:, far], plain[:, far])
    between = blended[:, 28, 12]
    assert not torch.equal(between, plain[:, 28, 12]) and not torch.equal(between, originals[:, 28, 12])


def test_a_keep_mask_and_a_selection_work_together(backbone):
    originals, masks = pictures(2, 64, 64), torch.zeros(2, 64, 64)
    masks[:, 8:56, 8:56] = 1
    edit = finished(Edit(backbone, originals, ASKED, masks, keep=MASKS))
    z0 = backbone.scaled(torch.cat([backbone.encode_image_latents(x[None]) for x in originals]))
    assert torch.equal(edit.last[:, :, 2:5, 2:5], z0[:, :, 2:5, 2:5])
    assert torch.equal(edit.last[:, :, 0], z0[:, :, 0])
    assert torch.equal(edit.images[masks == 0], originals[masks == 0])
    with pytest.raises(InputError, match="nothing left to edit"):
        Edit(backbone, originals, ASKED, MASKS, keep=masks)


def test_small_masks_warn(backbone):
    small = torch.zeros(3, 64, 64)
    small[0, 16:40, 16:40] = 1
    small[1, 20:23, 20:40] = 1
    (said,) = Edit(backbone, pictures(3, 64, 64), ASKED, keep=small).notes
    assert "fewer than 4 latent cells in 1 of 3 images" in said
    assert Edit(backbone, pictures(2, 64, 64), ASKED, keep=MASKS).notes == []


def test_masks_are_brought_to_the_images_size():
    masks = torch.zeros(2, 128, 128)
    masks[:, :64] = 1
    for size in (64, 256):
        assert fitted(masks, 2, size, size).mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(fitted(masks[0], 1, 128, 128), masks[:1])
    assert torch.equal(fitted(masks[:1], 3, 64, 64), fitted(masks[:1].repeat(3, 1, 1), 3, 64, 64)), (
        "one for all"
    )
    with pytest.raises(InputError, match="keep has 2 masks, but there are 3 images"):
        fitted(masks, 3, 64, 64)
    with pytest.raises(InputError, match="128×128, but the images are 64×48"):
        fitted(masks, 2, 48, 64)
    assert fitted(masks, 2, 48, 64, (100, 100)).shape == (2, 48, 64)


def test_impossible_windows_are_refused():
    for start, end in itertools.permutations((0.2, 0.6, 1.4), 2):
        if start > end or max(start, end) > 1:
            with pytest.raises(InputError, match="keep window"):
                KeepRequest(start, end)
    with pytest.raises(InputError, match="choose one of hard, soft"):
        KeepRequest(way="gentle")


# -- the step ------------------------------------------------------------------------------------------------------------

CONFIG = edit_views.Config(prompt="make it night", steps=3, views="0-2", resolution=0, preview_every=0)


def test_edit_views_takes_masks_of_any_size_and_keeps_what_they_cover():
    scene, config = moving_scene(), replace(CONFIG, background="as edited", keep_feather=2)
    plain = m.result(edit_views.run(scene, Darkening(), config))
    height, width = plain.images.shape[1:3]
    masks = torch.zeros(3, 2 * height, 2 * width)
    masks[:, : height // 2 * 2] = 1
    kept = m.result(edit_views.run(scene, Darkening(), config, keep=masks))
    upper = slice(0, height // 2 - 8)
    assert torch.equal(kept.images[:, upper], kept.originals[:, upper])
    assert float((plain.images - plain.originals)[:, upper].abs().mean()) > 0.05
    assert torch.equal(kept.images[:, -8:], plain.images[:, -8:])
    assert kept.edit["keeps"] and not plain.edit["keeps"]


def test_what_is_kept_is_the_original_itself_where_detail_comes_from_the_originals():
    scene, config = moving_scene(), replace(CONFIG, background="as edited", detail="from originals")
    plain = m.result(edit_views.run(scene, Darkening(), config))
    height, width = plain.images.shape[1:3]
    masks = torch.zeros(3, height, width)
    masks[:, : height // 2] = 1
    kept = m.result(edit_views.run(scene, Darkening(), config, keep=masks))
    upper, lower = slice(0, height // 2 - 12), slice(height // 2 + 12, None)
    assert torch.allclose(kept.images[:, upper], kept.originals[:, upper], atol=1e-6)
    assert float((plain.images - plain.originals)[:, upper].abs().mean()) > 0.05
    away = [float((kept.images - v).abs()[:, lower].mean()) for v in (plain.images, plain.originals)]
    assert away[0] < 0.1 * away[1], "the colors of what is kept do not run into the edit"


def test_edit_views_refuses_what_does_not_fit(backbone):
    scene = moving_scene()
    with pytest.raises(InputError, match="keep has 2 masks, but there are 3 images"):
        m.result(edit_views.run(scene, backbone, CONFIG, keep=torch.ones(2, 40, 48)))
    with pytest.raises(InputError, match="nothing left to edit"):
        upper = Selection((scene.canonical.means[:, 2] > 0.2).float())
        m.result(edit_views.run(scene, backbone, CONFIG, None, upper, keep=torch.ones(3, 40, 48)))
    with pytest.raises(InputError, match=r"keep window is 0\.9 to 0\.4"):
        m.result(edit_views.run(scene, backbone, replace(CONFIG, keep_start=0.9, keep_end=0.4)))
