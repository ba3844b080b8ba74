"""Edits with attention "epipolar": which images go through the network when, and that they can be cut and resumed."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.diffusion import CrossFrameAttention
from engine.diffusion.key_views import Injection, Recording
from engine.errors import InputError
from engine.guidance.classifier_free import Guidance
from engine.guidance.edit import Edit, EditRequest, Placement, edit_pictures
from engine.guidance.key_passes import KeyPasses
from engine.scene import Cameras
from engine.steps import edit_views
from tests.engine.test_epipolar import ring
from tests.engine.test_guidance import Watching, pictures
from tests.scenes import moving_scene
from tests.tiny_diffusion import tiny_backbone

ASKED = EditRequest(
    Guidance("make it night", 3.0, 1.5), steps=4, attention="epipolar", frames_at_once=3, seed=5
)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def placed(count: int = 7, frames: tuple[int, ...] | None = None) -> Placement:
    return Placement(ring(count), frames or (0,) * count)


def run(backbone, count=7, **changed):
    return edit_pictures(
        backbone, pictures(count, 64, 48), replace(ASKED, **changed), placement=placed(count)
    )


def test_calls_of_the_network_per_step_are_one_and_the_chunks(backbone):
    watching = Watching(backbone)
    edit = Edit(watching, pictures(7, 64, 48), ASKED, placement=placed())
    assert edit.total == 4 * 3 and [t >= 100 for t in edit.timesteps] == [True, True, True, False]
    while not edit.is_finished:
        edit.step()
    kinds = [type(sharing) for sharing in watching.seen]
    assert kinds == [Recording, Injection, Injection, Injection] * 3 + [CrossFrameAttention] * 3
    assert {sharing.mode for sharing in watching.seen[12:]} == {"vanilla"}
    assert [sharing.nearest for sharing in watching.seen[1:4]] == [1, 2, 2]
    assert edit.calls == 4 * 7 + 3 * 3
    assert edit.key_passes is not None and not edit.key_passes._recorded, "records do not outlive a timestep"


def test_keys_are_one_per_chunk_seeded_and_change_with_the_step():
    def keys(seed: int):
        passes = KeyPasses(placed(8), 8, 0, 3, 12, seed, 1)
        assert sorted(i for part in passes.chunks for i in part) == list(range(8))
        chosen = [passes.keys(step, 0) for step in range(12)]
        for at in chosen:
            assert all(key in part for key, part in zip(at, passes.chunks, strict=True))
        return chosen

    assert keys(1) == keys(1) != keys(2)
    assert len({tuple(at) for at in keys(1)}) > 4


def test_chunks_are_neighbors_in_angle():
    shuffled = ring(6)[[4, 1, 5, 0, 3, 2]]
    parts = KeyPasses(Placement(shuffled, (0,) * 6), 6, 0, 3, 1, 0, 1).chunks
    found = [[int(shuffled.names[i][-1]) for i in part] for part in parts]
    assert found in ([[0, 1, 2], [3, 4, 5]], [[5, 4, 3], [2, 1, 0]])


def test_one_image_is_edited_as_with_plain_attention(backbone):
    alone, plain = run(backbone, 1), run(backbone, 1, attention="vanilla")
    torch.testing.assert_close(alone, plain, rtol=0, atol=2e-4)


def test_views_become_what_the_others_are_not_alone(backbone):
    assert float((run(backbone) - run(backbone, attention="vanilla")).abs().max()) > 1e-3
    assert torch.equal(run(backbone), run(backbone))


def test_identical_cameras_fall_back_without_nan(backbone):
    rig = ring(4)
    same = Cameras(rig.world_to_camera[:1].expand(4, 4, 4), rig.K, rig.sizes, rig.names)
    placement = Placement(same, (0,) * 4)
    edit = Edit(backbone, pictures(4, 64, 48), ASKED, placement=placement)
    while not edit.is_finished:
        edit.step()
    assert bool(edit.images.isfinite().all())
    assert "Cameras cam0 and cam1 are at the same position, and 5 further pairs" in edit.notes[1]


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 11, 13])
def test_resumed_equals_uninterrupted(backbone, stop):
    """In the middle of a timestep, too, where the key passes are run again: two frames, five and three views."""
    originals, placement = pictures(6, 64, 48), placed(6, (0, 0, 0, 2, 2, 2))
    asked = replace(ASKED, frames_at_once=2)
    whole, first, second = (Edit(backbone, originals, asked, placement=placement) for _ in range(3))
    while not whole.is_finished:
        whole.step()
    for _ in range(stop):
        first.step()
    tensors, numbers = first.state()
    second.load_state({name: t.clone() for name, t in tensors.items()}, numbers)
    while not second.is_finished:
        second.step()
    assert torch.equal(second.images, whole.images)
    assert second.calls == whole.calls


def test_injection_stays_within_a_frame_and_keys_look_at_the_reference_frame(backbone):
    watching = Watching(backbone)
    frames = (3, 1, 3, 1, 3, 2)
    edit = Edit(watching, pictures(6, 64, 48), replace(ASKED, steps=1, key=1), placement=placed(6, frames))
    edit.timesteps = [500]
    while not edit.is_finished:
        edit.step()
    records = [sharing.views for sharing in watching.seen if isinstance(sharing, Recording)]
    assert [views.frames for views in records] == [1, 1, 1], "the frame of the key image, then 2 and 3"
    assert records[0].reference is None
    assert all(views.reference is records[0] for views in records[1:])
    injections = [sharing for sharing in watching.seen if isinstance(sharing, Injection)]
    assert [{frames[i] for i in (*inj.images, *inj.keys)} for inj in injections] == [{1}, {2}, {3}]
    assert "3 frames, 3 chunks" in edit.notes[0]


def test_the_reference_frame_steers_the_others(backbone):
    placement, originals = placed(4, (0, 0, 5, 5)), pictures(4, 64, 48)
    other = originals.clone()
    other[:2] = 1 - other[:2]
    asked = replace(ASKED, steps=2)
    first, second = (edit_pictures(backbone, x, asked, placement=placement)[2:] for x in (originals, other))
    assert float((first - second).abs().max()) > 1e-3
    last = replace(asked, key=3)
    first, second = (edit_pictures(backbone, x, last, placement=placement)[2:] for x in (originals, other))
    assert torch.equal(first, second), "the reference frame does not look at the others"


@pytest.mark.parametrize(
    ("scales", "branch"),
    [((7.5, 1.5), 1), ((7.5, 1.0), 1), ((1.5, 1.5), 0), ((1.0, 1.0), 0), ((0.0, 1.5), 0)],
)
def test_matching_looks_at_the_branch_with_the_image_alone(scales, branch):
    assert Guidance("x", *scales).image_branch == branch
    assert Guidance("x", *scales, negative="x").image_branch == 0


@pytest.mark.parametrize("scales", [(7.5, 1.5), (7.5, 1.0), (1.5, 1.5), (1.0, 1.0), (0.0, 1.5)])
def test_any_guidance_runs(backbone, scales):
    edited = run(backbone, 2, guidance=Guidance("make it night", *scales), steps=1)
    assert bool(edited.isfinite().all())


def test_what_is_missing_is_said(backbone):
    originals = pictures(3, 64, 48)
    with pytest.raises(InputError, match="cameras of the images, and they are missing"):
        Edit(backbone, originals, ASKED)
    with pytest.raises(InputError, match="3 images, but the placement has 2 cameras and 2 frames"):
        Edit(backbone, originals, ASKED, placement=placed(2))
    with pytest.raises(InputError, match="key view is number 3 of 3"):
        Edit(backbone, originals, replace(ASKED, key=3), placement=placed(3))


# -- the step ------------------------------------------------------------------------------------------------------------

CONFIG = edit_views.Config(
    prompt="make it night",
    steps=2,
    views="0-3",
    moments="0 3",
    resolution=48,
    preview_every=0,
    attention="epipolar",
    frames_at_once=2,
)


def test_edit_views_offers_it_and_says_what_it_grouped(backbone):
    messages = list(edit_views.run(moving_scene(), backbone, CONFIG))
    views = messages[-1].value
    said = "Epipolar attention: 2 frames, 4 chunks of up to 2 views, one key view per chunk."
    assert said in messages[0].note and views.edit["note"] == said
    assert views.edit["attention"] == "epipolar" and messages[0].total == 8
    assert "4 chunks" in edit_views.summary(views)
    other = m.result(edit_views.run(moving_scene(), backbone, replace(CONFIG, attention="vanilla")))
    assert float((views.images - other.images).abs().max()) > 1e-3


@pytest.mark.parametrize("stop", [1, 3])
def test_edit_views_resumes_it(backbone, tmp_path, stop):
    scene, checkpoint = moving_scene(), tmp_path / "edit.safetensors"
    whole = m.result(edit_views.run(scene, backbone, CONFIG))
    stream = edit_views.run(scene, backbone, CONFIG, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == stop:
            break
    stream.close()
    resumed = m.result(edit_views.run(scene, backbone, CONFIG, checkpoint=checkpoint))
    assert torch.equal(resumed.images, whole.images) and resumed.edit == whole.edit
