"""Crops around a mask: where they lie, that rays and epipolar lines follow them, and that nothing outside changes."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from engine import messages as m
from engine.diffusion.epipolar import fundamental
from engine.errors import InputError
from engine.guidance.key_passes import Placement
from engine.scene import Selection
from engine.steps import edit_views
from engine.train import view_edit
from engine.train.view_crops import Crops, Window, longest_side, windows_of
from tests.edit_scenes import PerfectEditor, edited_views
from tests.scenes import capture_of, moving_scene
from tests.tiny_diffusion import tiny_backbone

CONFIG = edit_views.Config(
    prompt="make it night", steps=2, views="0-2", resolution=32, preview_every=0, rasterizer="torch"
)


def masks_at(boxes, height=60, width=80):
    masks = torch.zeros(len(boxes), height, width)
    for mask, box in zip(masks, boxes, strict=True):
        if box is not None:
            left, top, right, bottom = box
            mask[top:bottom, left:right] = 1
    return masks


@pytest.fixture(scope="module")
def scene():
    return moving_scene()


@pytest.fixture(scope="module")
def keep(scene):
    """A small square in the middle of three views, of the captured size."""
    width, height = scene.rig.sizes[0]
    box = (width // 2 - 4, height // 2 - 4, width // 2 + 4, height // 2 + 4)
    return masks_at([box] * 3, height, width)


def edit(scene, backbone, keep=None, selection=None, **changed):
    video = changed.pop("video", None)
    stream = edit_views.run(scene, backbone, replace(CONFIG, **changed), video, selection, keep=keep)
    return m.result(stream)


def test_a_window_holds_the_mask_and_its_margin_and_stays_in_the_image():
    masks = masks_at([(30, 20, 40, 26), (0, 0, 10, 10), (70, 50, 80, 60)])
    found = windows_of(masks, (0, 1, 2), (0, 0, 0), 0.5, (80, 60))
    assert found == [Window(25, 13, 20), Window(0, 0, 20), Window(60, 40, 20)]
    # at another size of the images than of the masks
    assert windows_of(masks, (0, 1, 2), (0, 0, 0), 0.5, (160, 120))[0] == Window(50, 26, 40)
    assert longest_side(masks, 0.5) == pytest.approx(20 / 60)
    large = windows_of(masks_at([(0, 0, 80, 50)]), (0,), (0,), 1.0, (80, 60))
    assert large == [Window(10, 0, 60)], "not larger than the short side"


def test_crops_of_one_camera_have_one_size_and_do_not_jump():
    steps = [10, 12, 18, 12, 14, 20, 16, 18]
    boxes = [(x, 20, x + 8 + i % 3, 28) for i, x in enumerate(steps)]
    found = windows_of(masks_at(boxes), (0,) * 8, tuple(range(8)), 0.8, (80, 60))
    assert len({window.side for window in found}) == 1
    moved = [abs(b.left - a.left) for a, b in pairwise(found)]
    assert max(moved) <= 2 < max(abs(b - a) for a, b in pairwise(steps))
    for window, (left, top, right, bottom) in zip(found, boxes, strict=True):
        assert window.left <= left and right <= window.left + window.side
        assert window.top <= top and bottom <= window.top + window.side
    # the order of the images does not matter, that of the frames does
    turned = windows_of(masks_at(boxes[::-1]), (0,) * 8, tuple(range(7, -1, -1)), 0.8, (80, 60))
    assert turned == found[::-1]


def test_a_frame_without_a_mask_follows_its_neighbor_and_a_camera_without_any_is_left_out():
    boxes = [(10, 10, 20, 20), None, None, None, (50, 30, 60, 40)]
    found = windows_of(masks_at(boxes), (0, 0, 1, 1, 0), (0, 1, 0, 1, 9), 0.2, (80, 60))
    assert found[2] is None and found[3] is None
    assert found[1].left <= 10 and found[1].left + found[1].side >= 20
    with pytest.raises(InputError, match="empty in all 2 images"):
        longest_side(masks_at([None, None]), 0.5)


def test_every_pixel_of_a_crop_keeps_its_ray(scene):
    rig = scene.rig[[0, 3]]
    cropped = rig.cropped([(7, 5, 20, 20), (11, 3, 20, 20)]).resized(((64, 64),) * 2)
    assert cropped.sizes == ((64, 64),) * 2
    points = torch.randn(30, 3, dtype=torch.float64) * 0.3
    for view, (left, top) in enumerate(((7, 5), (11, 3))):
        before, depth = rig.project(points, view)
        after, same = cropped.project(points, view)
        torch.testing.assert_close(after, (before - torch.tensor([left, top]).double()) * 64 / 20)
        assert torch.equal(depth, same)


def test_the_epipolar_constraint_holds_between_crops(scene, keep, monkeypatch):
    """The cameras that the edit is given, against points of the scene in the crops that it is given."""
    seen = []

    class Watched(view_edit.Edit):
        def __init__(self, backbone, originals, request, masks, placement, *rest):
            seen.append((originals, placement))
            super().__init__(backbone, originals, request, masks, placement, *rest)

    monkeypatch.setattr(view_edit, "Edit", Watched)
    moved = torch.stack([mask.roll((3 * i, -4 * i), (0, 1)) for i, mask in enumerate(keep)])
    edit(scene, tiny_backbone(), moved, crop="keep mask", attention="epipolar", frames_at_once=2)
    ((originals, placement),) = seen
    assert isinstance(placement, Placement) and originals.shape == (3, 32, 32, 3)
    cameras, rig = placement.cameras, scene.rig
    assert cameras.sizes == ((32, 32),) * 3
    points = scene.canonical.means.double()
    for a, b in ((0, 1), (1, 2)):
        F = fundamental(
            cameras.K[a], cameras.world_to_camera[a], cameras.K[b], cameras.world_to_camera[b]
        ).double()
        p, q = (
            torch.cat([cameras.project(points, v)[0], torch.ones(len(points), 1).double()], 1) for v in (a, b)
        )

        def apart(F, p=p, q=q):
            line = p @ F.T
            return ((q * line).sum(1) / line[:, :2].norm(dim=1)).abs()

        def crosses(F, p=p, q=q):
            line = q @ F.T
            return ((p * line).sum(1) / line[:, :2].norm(dim=1)).abs()

        kept = min((apart(F), crosses(F)), key=lambda d: float(d.max()))
        assert float(kept.max()) < 1e-3
        # the whole images' cameras at the crop's size would be wrong
        whole = rig.resized(((32, 32),) * len(rig))
        F = fundamental(whole.K[a], whole.world_to_camera[a], whole.K[b], whole.world_to_camera[b]).double()
        wrong = min((apart(F), crosses(F)), key=lambda d: float(d.max()))
        assert float(wrong.mean()) > 0.3


def test_outside_of_the_crop_images_are_the_originals_and_inside_they_change(scene, keep):
    views = edit(scene, tiny_backbone(), keep, crop="keep mask", background="as edited")
    width, height = scene.rig.sizes[0]
    assert views.size == (width, height) and len(views) == 3
    assert views.cameras.sizes[0] == (width, height)
    changed = (views.images - views.originals).abs().amax(dim=-1)
    for i, (left, top, side) in enumerate(views.edit["crops"]):
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[top : top + side, left : left + side] = True
        assert float(changed[i][~inside].max()) == 0
        assert float(changed[i][inside].mean()) > 0.02
        # it fades toward the border of the crop
        assert float(changed[i][top, left : left + side].mean()) < 0.6 * float(changed[i][inside].mean())
    assert "cropped to 16 pixels around the keep mask, edited at 32" in views.edit["note"]


def test_an_exact_edit_of_a_crop_is_the_exact_edit_of_the_image(scene, keep):
    """With a model that knows the edit, at the crop's own size: no pixel moves, and colors are those of the truth."""
    editor = PerfectEditor()
    settings = {"crop": "keep mask", "crop_margin": 1.5, "detail": "from originals"}
    views = edit(scene, editor, keep, **settings)
    truth = edited_views(scene, [0, 1, 2])
    left, top, side = views.edit["crops"][0]
    assert side == 32
    # neither where it fades nor what is kept
    ring = torch.zeros(truth.images.shape[1:3], dtype=torch.bool)
    ring[top + 4 : top + side - 4, left + 4 : left + side - 4] = True
    ring &= torch.nn.functional.max_pool2d(keep[:1], 9, 1, 4)[0] == 0
    before = (truth.originals[0][ring] - truth.images[0][ring]).abs().mean()
    after = (views.images[0][ring] - truth.images[0][ring]).abs().mean()
    assert float(before) > 0.05 and float(after) < 0.4 * float(before)


def test_what_the_edit_leaves_alone_survives_the_resampling(scene, keep):
    """A crop that the edit does not change comes back bit for bit, although it was enlarged and reduced again."""
    views = edit(scene, tiny_backbone(), keep, crop="keep mask", strength=0.0)
    assert torch.equal(views.images, views.originals)


def test_captured_images_and_selections_are_cropped(scene):
    part = scene.canonical.means[:, 2] > scene.canonical.means[:, 2].quantile(0.8)
    views = edit(
        scene, tiny_backbone(), selection=Selection(part.float()), crop="selection", video=capture_of(scene)
    )
    assert views.edit["originals"] == "captured"
    sides = {side for _, _, side in views.edit["crops"]}
    assert max(sides) < min(scene.rig.sizes[0])
    assert float((views.images - views.originals).abs().max()) > 0.01


def test_views_without_a_mask_are_not_edited(scene, keep):
    masks = keep.clone()
    masks[1] = 0
    views = edit(scene, tiny_backbone(), masks, crop="keep mask")
    assert len(views) == 3 and views.edit["crops"][1] is None
    assert torch.equal(views.images[1], views.originals[1])
    assert not torch.equal(views.images[2], views.originals[2])
    assert views.edit["diffusion_calls"] == 2 * 2 and "1 images without it stay" in views.edit["note"]


def test_large_crops_shrink_the_images_to_what_the_model_edits(scene):
    width, height = scene.rig.sizes[0]
    masks = masks_at([(2, 2, width - 2, height - 2)] * 3, height, width)
    views = edit(scene, tiny_backbone(), masks, crop="keep mask")
    assert min(views.size) == 32 and views.edit["crops"][0][2] == 32


def test_a_crop_needs_its_mask(scene, keep):
    with pytest.raises(InputError, match="crop is 'selection', but the input for it is not connected"):
        edit(scene, tiny_backbone(), keep, crop="selection")


def test_a_canceled_edit_of_crops_resumes_with_the_same_bits(scene, keep, tmp_path):
    config = replace(CONFIG, crop="keep mask", frames_at_once=2)
    whole = m.result(edit_views.run(scene, tiny_backbone(), config, keep=keep))
    path = tmp_path / "edit.safetensors"
    stream = edit_views.run(scene, tiny_backbone(), config, keep=keep, checkpoint=path)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 2:
            break
    stream.close()
    assert path.is_file()
    resumed = m.result(edit_views.run(scene, tiny_backbone(), config, keep=keep, checkpoint=path))
    assert torch.equal(resumed.images, whole.images)


def test_the_crop_gives_a_small_mask_more_latents(scene, keep):
    small = keep.clone()
    small[:] = 0
    middle = small.shape[1] // 2, small.shape[2] // 2
    small[:, middle[0] : middle[0] + 4, middle[1] : middle[1] + 4] = 1
    plain = edit(scene, tiny_backbone(), small)
    assert "Set crop of Edit Views to 'keep mask'" in plain.edit["note"]
    cropped = edit(scene, tiny_backbone(), small, crop="keep mask", crop_margin=0.25)
    assert "latent cells" not in cropped.edit["note"]


def test_crops_are_cut_and_pasted_where_they_lie(scene):
    views = edited_views(scene, [0, 1])
    side = 16
    crops = Crops(views, [Window(3, 4, side), None], side)
    assert torch.equal(crops.views.originals[0], views.originals[0][4:20, 3:19]) and len(crops.views) == 1
    white = crops.pasted(torch.ones(1, side, side, 3))
    assert torch.equal(white[1], views.originals[1])
    torch.testing.assert_close(white[0][8:16, 7:15], torch.ones(8, 8, 3))
