"""The loop of Edit3DGS on a tiny head with a model of random weights: what changes, what stays, rounds, and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import messages as m
from engine.deform import BoundMesh
from engine.diffusion import Backbone
from engine.errors import InputError
from engine.heads import Head
from engine.masks.head_regions import part_faces, select_part
from engine.scene import Cameras, Scene4D, Selection
from engine.steps import edit_head
from engine.train.view_fit import Pins
from tests.engine.test_head_steps import scene_of
from tests.tiny_diffusion import tiny_backbone
from tests.tiny_head import tiny_head

CONFIG = edit_head.Config(
    prompt="make it night",
    steps=2,
    levels="999 300",
    frames_per_round=2,
    iterations_per_frame=3,
    keep="lips",
    keep_grow=0,
    resolution=48,
    rasterizer="torch",
    preview_every=0,
)


def rig() -> Cameras:
    poses: list[torch.Tensor] = []
    for turn in (0.0, 0.5, -0.5):
        c, s = torch.tensor(turn).cos(), torch.tensor(turn).sin()
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.tensor([[c, 0, -s], [0, -1, 0], [-s, 0, -c]], dtype=torch.float64)
        pose[2, 3] = 0.5
        poses.append(pose)
    K = torch.tensor([[70.0, 0, 24], [0, 70, 24], [0, 0, 1]], dtype=torch.float64).repeat(3, 1, 1)
    return Cameras(torch.stack(poses), K, ((48, 48),) * 3, ("front", "left", "right"))


@pytest.fixture(scope="module")
def head() -> Head:
    return tiny_head(frames=5)


@pytest.fixture(scope="module")
def scene(head: Head) -> Scene4D:
    return scene_of(head).with_(rig=rig())


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


def edited(scene: Scene4D, head: Head, backbone: Backbone, **changed: object) -> Scene4D:
    return m.result(edit_head.run(scene, head, backbone, replace(CONFIG, **changed)))


def test_parameters_and_bindings_are_bit_identical_and_colors_change(
    scene: Scene4D, head: Head, backbone: Backbone
) -> None:
    after = edited(scene, head, backbone)
    before, now = scene.deformation, after.deformation
    assert isinstance(before, BoundMesh) and isinstance(now, BoundMesh)
    for name, tensor in before.tensors().items():
        assert torch.equal(now.tensors()[name], tensor), name
    assert not torch.equal(after.canonical.sh, scene.canonical.sh)
    assert len(after.canonical) == len(scene.canonical)
    entry = after.last_entry("edit_head")
    assert entry is not None and entry["rounds"] == 2 and entry["prompt"] == "make it night"
    best, (width, height) = backbone.defaults, entry["size"]
    said = edit_head.STEP.note(after)
    told = f"{CONFIG.steps or best.steps} steps, guidance scale {CONFIG.guidance_scale or best.guidance_scale:g}, image"
    assert f"{width}×{height}, {told}" in said, said
    assert f"{CONFIG.iterations_of_preset} fitting steps per frame, mouth pin weight 0" in said


def test_every_round_draws_its_frames_and_seed(head: Head) -> None:
    rounds = replace(CONFIG, levels="999 300 300 21", seed=7).rounds(5)
    assert [r.level for r in rounds] == [999, 300, 300, 21]
    assert [r.seed for r in rounds] == [7, 8, 9, 10]
    assert all(len(set(r.frames)) == 2 for r in rounds)
    assert len({r.frames for r in rounds}) > 1
    assert rounds == replace(CONFIG, levels="999 300 300 21", seed=7).rounds(5)


def test_later_rounds_start_from_the_edited_head_but_see_the_original(
    scene: Scene4D, head: Head, backbone: Backbone
) -> None:
    work = edit_head.HeadEdit(scene, head, backbone, CONFIG)
    assert work.editing.edit.encoded.noised is None
    while work.round == 0:
        work.step()
    edit = work.editing.edit
    noised = edit.encoded.noised
    assert noised is not None and not torch.equal(noised, edit.originals)
    again = edit_head.HeadEdit(scene, head, backbone, replace(CONFIG, levels="300", seed=1))
    again.rounds = [work.rounds[1]]
    again.editing = again._editing()
    assert torch.equal(edit.originals, again.editing.edit.originals)


@pytest.mark.parametrize("stop", [1, 5, 9, 15])
def test_resume_equals_uninterrupted(
    scene: Scene4D, head: Head, backbone: Backbone, tmp_path: Path, stop: int
) -> None:
    whole = edited(scene, head, backbone)
    work = edit_head.HeadEdit(scene, head, backbone, CONFIG)
    assert stop < work.total
    for _ in range(stop):
        work.step()
    work.save(tmp_path / "half.safetensors")
    messages = list(edit_head.run(scene, head, backbone, CONFIG, checkpoint=tmp_path / "half.safetensors"))
    started, done = messages[0], messages[-1]
    assert isinstance(started, m.Started) and f"resumed at step {stop}" in started.note
    assert isinstance(done, m.Finished)
    for name, tensor in whole.canonical.tensors().items():
        assert torch.equal(done.value.canonical.tensors()[name], tensor), name


def test_a_checkpoint_of_another_edit_is_left_alone(
    scene: Scene4D, head: Head, backbone: Backbone, tmp_path: Path
) -> None:
    work = edit_head.HeadEdit(scene, head, backbone, CONFIG)
    work.step()
    work.save(tmp_path / "half.safetensors")
    other = edit_head.HeadEdit(scene, head, backbone, replace(CONFIG, seed=3))
    assert not other.resume(tmp_path / "half.safetensors")


def test_a_selection_limits_the_edit_bit_for_bit(scene: Scene4D, head: Head, backbone: Backbone) -> None:
    selection = select_part(scene, head.model, "lips")
    messages = edit_head.run(scene, head, backbone, replace(CONFIG, keep="nothing"), selection=selection)
    after = m.result(messages)
    outside = selection.weights == 0
    assert torch.equal(after.canonical.sh[outside], scene.canonical.sh[outside])
    assert not torch.equal(after.canonical.sh, scene.canonical.sh)


def test_frozen_teeth_are_bit_identical(scene: Scene4D, head: Head, backbone: Backbone) -> None:
    model = replace(head.model, regions={**head.model.regions, "teeth": torch.arange(20, 30)})
    after = edited(scene, Head(model, head.motion), backbone, preset="GaussianAvatar-Editor")
    teeth = part_faces(model, "teeth")
    assert bool(teeth.any())
    for name, tensor in scene.canonical.tensors().items():
        assert torch.equal(after.canonical.tensors()[name][teeth], tensor[teeth]), name


def test_the_mouth_is_pinned_to_the_unedited_head_where_the_preset_or_a_weight_asks(
    scene: Scene4D, head: Head, backbone: Backbone
) -> None:
    def pins_of(**changed: object) -> Pins | None:
        work = edit_head.HeadEdit(scene, head, backbone, replace(CONFIG, **changed))
        while work.fit is None:
            work.step()
        if work.fit.pins is not None:
            inside = work.fit.pins.masks.bool()
            assert bool(inside.any())
            assert torch.equal(work.fit.targets[inside], work.fit.views.originals[inside])
        return work.fit.pins

    assert pins_of() is None and pins_of(preset="GaussianAvatar-Editor", pin_weight=0.0) is None
    paper, own = pins_of(preset="GaussianAvatar-Editor"), pins_of(pin_weight=20.0)
    assert paper is not None and paper.weight == 1000
    assert own is not None and own.weight == 20


@pytest.mark.parametrize("levels", ["", "0", "1000", "night", "999 -3"])
def test_wrong_noise_levels_are_named(levels: str) -> None:
    with pytest.raises(InputError, match="write numbers from 1 to 999"):
        replace(CONFIG, levels=levels)


def test_a_scene_without_a_head_is_refused(scene: Scene4D, head: Head, backbone: Backbone) -> None:
    still = Scene4D.still(scene.canonical, scene.times, scene.rig, scene.bounds, scene.background)
    with pytest.raises(InputError, match="is not a head's"):
        edited(still, head, backbone)


def test_progress_ends_at_its_total_and_a_finished_checkpoint_gives_the_same(
    scene: Scene4D, head: Head, backbone: Backbone, tmp_path: Path
) -> None:
    work = edit_head.HeadEdit(scene, head, backbone, CONFIG)
    while not work.is_finished:
        work.step()
    assert work.iteration == work.total
    work.save(tmp_path / "whole.safetensors")
    again = edit_head.HeadEdit(scene, head, backbone, CONFIG)
    assert again.resume(tmp_path / "whole.safetensors")
    assert again.iteration == again.total
    assert again.result().history == work.result().history
    assert torch.equal(again.result().canonical.sh, work.result().canonical.sh)


def test_a_selection_that_no_view_shows_changes_nothing_and_ends(
    scene: Scene4D, head: Head, backbone: Backbone
) -> None:
    hidden = Selection(torch.zeros(len(scene.canonical)))
    messages = list(edit_head.run(scene, head, backbone, replace(CONFIG, keep="nothing"), selection=hidden))
    after = messages[-1]
    assert isinstance(after, m.Finished)
    for name, tensor in scene.canonical.tensors().items():
        assert torch.equal(after.value.canonical.tensors()[name], tensor), name
