"""Masks of views become weights of Gaussians, and back."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.masks.lift import hardened, lift, render_selection
from engine.render import choose
from engine.scene import Selection
from engine.steps import lift_mask
from tests.edit_scenes import edited_views, field_scene
from tests.scenes import moving_scene

RASTERIZER = choose("auto")


@pytest.fixture(scope="module")
def scene():
    return moving_scene()


@pytest.fixture(scope="module")
def upper(scene):
    return Selection((scene.canonical.means[:, 2] > 0).float())


def masks_of(scene, selection, views, seconds):
    return render_selection(scene, selection, scene.rig[views], seconds, RASTERIZER)


def test_a_mask_of_every_view_finds_the_gaussians_that_it_shows(scene, upper):
    views, seconds = list(range(len(scene.rig))), [0.3] * len(scene.rig)
    masks = masks_of(scene, upper, views, seconds)
    soft = lift(scene, scene.rig[views], masks, seconds, RASTERIZER)
    assert torch.equal(hardened(soft, 0.45).weights, upper.weights)


def test_views_of_several_moments_work_together(upper):
    scene = field_scene()
    views, seconds = [0, 1, 2, 3], [0.0, 0.3, 0.3, 1.5]
    masks = masks_of(scene, upper, views, seconds)
    soft = lift(scene, scene.rig[views], masks, seconds, RASTERIZER)
    agree = hardened(soft, 0.5).weights == upper.weights
    assert float(agree.float().mean()) > 0.9


def test_weights_are_the_share_of_what_a_gaussian_contributes(scene):
    """A full mask gives 1, an empty one 0, half the brightness one half; in float terms, for whatever is seen."""
    cameras, seconds = scene.rig[[0, 3]], [0.0, 0.0]
    full = torch.ones(2, 40, 48)
    for value in (0.0, 0.5, 1.0):
        soft = lift(scene, cameras, full * value, seconds, RASTERIZER)
        assert torch.allclose(soft.weights, torch.full_like(soft.weights, value), atol=1e-4)


def test_unseen_gaussians_follow_their_neighbours_or_stay_out(scene):
    K = scene.rig.K[[0]].clone()
    K[:, :2, :2] *= 4  # so near that only the middle is in the picture
    near = replace(scene.rig[[0]], K=K)
    mask = torch.ones(1, 40, 48)
    out = lift(scene, near, mask, [0.0], RASTERIZER, fills_unseen=False).weights
    filled = lift(scene, near, mask, [0.0], RASTERIZER).weights
    assert bool((out == 0).any()) and bool((out > 0.99).any()) and bool((filled > 0.99).all())


def test_lifting_changes_neither_scene_nor_masks(scene):
    mask = torch.rand(1, 40, 48, generator=torch.Generator().manual_seed(0))
    kept, before = mask.clone(), {k: t.clone() for k, t in scene.canonical.tensors().items()}
    lift(scene, scene.rig[[0]], mask, [0.0], RASTERIZER)
    assert torch.equal(mask, kept)
    assert all(torch.equal(t, before[k]) for k, t in scene.canonical.tensors().items())
    assert not any(t.requires_grad for t in scene.canonical.tensors().values())


def test_masks_of_another_size_but_the_same_shape_are_taken(scene, upper):
    views, seconds = [0, 2, 5], [0.0] * 3
    masks = masks_of(scene, upper, views, seconds)
    large = torch.nn.functional.interpolate(masks[:, None], scale_factor=2)[:, 0]
    a = lift(scene, scene.rig[views], masks, seconds, RASTERIZER).weights
    b = lift(scene, scene.rig[views], large, seconds, RASTERIZER).weights
    assert float((a - b).abs().mean()) < 0.05


@pytest.mark.parametrize("shape", [(1, 40, 90), (2, 40, 48), (1, 48, 40)])
def test_masks_that_do_not_fit_are_refused(scene, shape):
    with pytest.raises(InputError, match="masks"):
        lift(scene, scene.rig[[0]], torch.ones(shape), [0.0], RASTERIZER)


def test_the_step_streams_a_preview_and_a_selection(scene, upper):
    views = edited_views(scene, range(8))
    masks = masks_of(scene, upper, list(range(8)), [0.0] * 8)
    messages = list(lift_mask.run(scene, views, masks, lift_mask.Config(softness=0.2)))
    assert isinstance(messages[0], m.Started)
    preview = next(x.image for x in messages if isinstance(x, m.Preview))
    red = (preview[..., 0] > preview[..., 1] + 0.3) & (preview[..., 1] < 0.5)
    yellow = (preview - torch.tensor([1.0, 0.9, 0.1])).abs().amax(-1) < 0.1
    assert preview.ndim == 3 and float(red.float().mean()) > 0.01 and bool(yellow.any())
    weights = messages[-1].value.weights
    assert float(((weights > 0.5).float() == upper.weights).float().mean()) > 0.97
    assert bool(((weights >= 0) & (weights <= 1)).all())


def test_one_mask_is_for_all_views(scene):
    views = edited_views(scene, range(3))
    mask = torch.zeros(1, *views.images.shape[1:3])
    mask[:, :, : mask.shape[2] // 2] = 1
    config = lift_mask.Config(rasterizer="torch")
    one, repeated = (
        m.result(lift_mask.run(scene, views, masks, config)).weights for masks in (mask, mask.repeat(3, 1, 1))
    )
    assert torch.equal(one, repeated) and 0 < float(one.mean()) < 1
    with pytest.raises(InputError, match=r"3 views and masks .* or a single one"):
        m.result(lift_mask.run(scene, views, mask.repeat(2, 1, 1), config))


def test_a_threshold_that_leaves_nothing_says_so(scene):
    views = edited_views(scene, [0, 1])
    masks = torch.full((2, 40, 48), 0.2)
    with pytest.raises(InputError, match="lower the threshold"):
        m.result(lift_mask.run(scene, views, masks))
    empty = m.result(lift_mask.run(scene, views, masks * 0)).weights
    assert not bool(empty.any())


def test_shown_refuses_a_selection_of_another_scene(scene):
    with pytest.raises(InputError, match="lift it again"):
        render_selection(scene, Selection(torch.ones(3)), scene.rig[[0]], [0.0], RASTERIZER)


def test_a_painted_image_finds_its_view(scene):
    views = edited_views(scene, range(4))
    mask = torch.zeros(1, *views.images.shape[1:3])
    mask[:, :, : mask.shape[2] // 2] = 1
    config = lift_mask.Config(rasterizer="torch")
    # saved in 8 bits and read again, in another size
    copy = (views.images[2:3] * 255).round() / 255
    copy = torch.nn.functional.interpolate(copy.permute(0, 3, 1, 2), scale_factor=2).permute(0, 2, 3, 1)
    found = m.result(lift_mask.run(scene, views, mask, config, painted=copy)).weights
    alone = m.result(lift_mask.run(scene, edited_views(scene, [2]), mask, config)).weights
    assert torch.equal(found, alone)
    refused = (
        ("MSK-031", views, torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))),
        ("MSK-032", edited_views(scene, [2, 2]), views.images[2:3]),
        ("STP-114", None, views.images[2:3]),
    )
    for code, among, image in refused:
        with pytest.raises(InputError) as error:
            m.result(lift_mask.run(scene, among, mask, config, painted=image))
        assert error.value.code == code
