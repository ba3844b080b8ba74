"""The steps of heads: region masks, posing by name, and driving by another motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.cli import main
from engine.deform import BoundMesh
from engine.deform.head_scenes import motion_of
from engine.errors import InputError
from engine.heads import Head
from engine.heads.reenact import drive, neutral_frame, smoothed, tracks
from engine.io.mask_folder import load_masks
from engine.io.scene_file import save_scene
from engine.io.selection_file import load_selection
from engine.messages import Finished, Preview, result
from engine.scene import Cameras, Gaussians, Scene4D
from engine.steps import drive_head, head_masks, pose_head
from tests.tiny_head import tiny_head, tiny_model


def scene_of(head: Head) -> Scene4D:
    rest = head.vertices(head.motion.canonical())[0]
    faces = head.model.faces
    count = len(faces)
    gaussians = Gaussians(
        means=rest[faces].mean(1),
        log_scales=torch.full((count, 3), -4.5),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        logit_opacities=torch.full((count,), 2.0),
        sh=torch.rand(count, 1, 3, generator=torch.Generator().manual_seed(1)),
    )
    parameters = {name: t for name, t in head.motion.tensors().items() if name != "times"}
    mesh = BoundMesh(
        faces, rest, head.vertices(), head.motion.times, torch.arange(count), parameters, head.model.name
    )
    pose = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.5], [0, 0, 0, 1]], dtype=torch.float64)
    K = torch.tensor([[60.0, 0, 20], [0, 60, 16], [0, 0, 1]], dtype=torch.float64)
    rig = Cameras(pose[None], K[None], ((40, 32),), ("front",))
    bounds = torch.tensor([[-0.2] * 3, [0.2] * 3], dtype=torch.float64)
    return Scene4D(gaussians, mesh, head.motion.times, rig, bounds, torch.ones(3))


@pytest.fixture(scope="module")
def head() -> Head:
    return tiny_head(frames=5)


@pytest.fixture(scope="module")
def scene(head: Head) -> Scene4D:
    return scene_of(head)


def test_region_masks_come_with_a_preview_and_the_parts_gaussians(head: Head, scene: Scene4D) -> None:
    config = head_masks.Config(part="lips", frame_numbers="all", rasterizer="torch")
    messages = list(head_masks.run(scene, head, config=config))
    assert any(isinstance(m, Preview) for m in messages)
    done = messages[-1]
    assert isinstance(done, Finished)
    masks, selection = done.value
    assert masks.shape == (5, 32, 40)
    assert float(masks.sum()) > 0 and 0 < float(selection.weights.sum()) < len(selection.weights)


def test_posing_changes_the_named_expression_alone(head: Head, scene: Scene4D) -> None:
    posed = pose_head.run(scene, head, pose_head.Config("expression 1 = 0:0, 0.4:1"))
    own, now = motion_of(scene, head.model), motion_of(posed, head.model)
    torch.testing.assert_close(now.expr[:, 1], torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))
    assert torch.equal(now.expr[:, [0, 2]], own.expr[:, [0, 2]])
    assert torch.equal(now.jaw_pose, own.jaw_pose)


@pytest.mark.parametrize(
    ("mode", "wanted"), [("set", lambda e: 0 * e + 2), ("add", lambda e: e + 2), ("scale", lambda e: 2 * e)]
)
def test_the_three_modes(head: Head, scene: Scene4D, mode: str, wanted) -> None:
    posed = pose_head.run(scene, head, pose_head.Config("expr 0 = 2", mode=mode))
    torch.testing.assert_close(motion_of(posed, head.model).expr[:, 0], wanted(head.motion.expr[:, 0]))


def test_posing_and_driving_keep_gaussians_and_bindings_bit_for_bit(head: Head, scene: Scene4D) -> None:
    posed = pose_head.run(scene, head, pose_head.Config("", jaw=10, gaze_up=5, turn=20))
    driven = drive_head.run(scene, head, Head(head.model, tiny_head(seed=9).motion))
    for changed in (posed, driven):
        assert isinstance(changed.deformation, BoundMesh)
        assert torch.equal(changed.deformation.binding, scene.deformation.binding)
        for name, tensor in scene.canonical.tensors().items():
            assert torch.equal(changed.canonical.tensors()[name], tensor)


def test_the_jaw_opens_and_the_rest_of_the_pose_stays(head: Head, scene: Scene4D) -> None:
    still = replace_pose(head)
    posed = pose_head.run(scene_of(still), still, pose_head.Config(jaw=30.0))
    now = motion_of(posed, head.model)
    torch.testing.assert_close(now.jaw_pose[0], torch.tensor([0.5235988, 0, 0]), atol=1e-5, rtol=0)
    assert torch.equal(now.neck_pose, still.motion.neck_pose)


def replace_pose(head: Head) -> Head:
    zeros = {n: torch.zeros_like(getattr(head.motion, n)) for n in ("jaw_pose", "neck_pose", "rotation")}
    return Head(head.model, head.motion.with_(**zeros))


def test_driving_by_its_own_motion_is_that_motion(head: Head) -> None:
    same = drive(head.motion, head.motion)
    for name in ("expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation"):
        torch.testing.assert_close(getattr(same, name), getattr(head.motion, name), atol=1e-5, rtol=1e-4)


def test_relative_driving_keeps_the_own_neutral_face(head: Head) -> None:
    driver = tiny_head(frames=7, seed=4).motion
    driven = drive(head.motion, driver, amplitude=2.0)
    own, theirs = neutral_frame(head.motion), neutral_frame(driver)
    torch.testing.assert_close(driven.expr[theirs], head.motion.expr[own])
    change = driven.expr - driven.expr[theirs]
    torch.testing.assert_close(change, 2 * (driver.expr - driver.expr[theirs]), atol=1e-5, rtol=1e-5)
    assert torch.equal(driven.shape, head.motion.shape)
    assert torch.equal(driven.times, driver.times)


def test_what_is_not_driven_stays_at_the_neutral_frame(head: Head) -> None:
    driver = tiny_head(frames=6, seed=4).motion
    driven = drive(head.motion, driver, "face", relative=False)
    own = neutral_frame(head.motion)
    assert torch.equal(driven.rotation, head.motion.rotation[own].expand(6, 3))
    assert torch.equal(driven.expr, driver.expr)


def test_smoothing_keeps_constant_motion_and_calms_the_rest(head: Head) -> None:
    constant = head.motion.with_(expr=torch.ones_like(head.motion.expr))
    torch.testing.assert_close(smoothed(constant, 1.5).expr, constant.expr)
    assert float(smoothed(head.motion, 2.0).expr.diff(dim=0).abs().sum()) < float(
        head.motion.expr.diff(dim=0).abs().sum()
    )


def test_another_identity_drives_the_pose_but_not_the_shape(head: Head, scene: Scene4D) -> None:
    other = tiny_head(frames=5, seed=8)
    driven = drive_head.run(scene, head, other, drive_head.Config(relative=False))
    expected = head.model.pose(other.motion.with_(shape=head.motion.shape))
    assert isinstance(driven.deformation, BoundMesh)
    torch.testing.assert_close(driven.deformation.frames, expected, atol=1e-6, rtol=0)
    entry = driven.last_entry("drive_head")
    assert entry is not None and entry["driver"] == "tiny head"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("smile", r"'smile' is not an expression; write a line such as 'jawOpen = 0.5'. \[GS4D-HED-042\]"),
        ("expresion 1 = 1", r"has no expression 'expresion 1'; did you mean expression"),
        ("expression 1 = wide", "is not a number or a list of seconds:value pairs"),
        ("expression 1 = 0:0, 1", "is not a number or a list"),
        ("expression 1 = nan", "is not a number or a list"),
        ("expr 99 = 1", "has no expression 'expr 99'"),
    ],
)
def test_wrong_lines_are_named(words: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        tracks(words, tiny_model(), torch.zeros(1))


def test_a_scene_without_head_parameters_cannot_be_posed(head: Head, scene: Scene4D) -> None:
    mesh = scene.deformation
    assert isinstance(mesh, BoundMesh)
    bare = scene.with_(deformation=mesh.with_(parameters={}))
    with pytest.raises(InputError, match="carries no head parameters"):
        pose_head.run(bare, head)


def test_another_head_model_is_refused_with_both_counts(head: Head, scene: Scene4D) -> None:
    model = replace(head.model, template=torch.zeros(7, 3))
    with pytest.raises(InputError, match="has 50 vertices and 96 triangles, tiny head has 7 and 96"):
        pose_head.run(scene, Head(model, head.motion))


def test_a_driver_of_another_model_is_refused(head: Head, scene: Scene4D) -> None:
    with pytest.raises(InputError, match="2 expression coefficients, the head has 3"):
        drive_head.run(scene, head, tiny_head(expressions=2))


def test_the_verb_writes_masks_that_the_other_verbs_read_and_the_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Head, scene: Scene4D
) -> None:
    monkeypatch.setattr("engine.cli.kinds.load_head", lambda *_: head)
    save_scene(scene, tmp_path / "scene.safetensors")
    words = [
        "head-mask",
        "--scene",
        str(tmp_path / "scene.safetensors"),
        "--part",
        "lips",
        "--rasterizer",
        "torch",
    ]
    words += ["--frame-numbers", "all", "--device", "cpu"]
    words += ["--out", str(tmp_path / "masks"), "--selection-out", str(tmp_path / "lips.safetensors")]
    assert main(words) == 0
    config = head_masks.Config(part="lips", frame_numbers="all", rasterizer="torch")
    made = result(head_masks.run(scene, head, config=config))
    assert torch.equal(load_masks(tmp_path / "masks", None, any_number=True), made.masks)
    assert torch.equal(load_selection(tmp_path / "lips.safetensors").weights, made.selection.weights)


def test_the_command_asks_for_a_driver(capsys: pytest.CaptureFixture[str]) -> None:
    """A neutral head in its place would freeze the scene without a word."""
    with pytest.raises(SystemExit):
        main(["drive-head", "--scene", "scene.safetensors", "--out", "driven.safetensors"])
    assert "--driver" in capsys.readouterr().err


def test_posing_in_parts_is_posing_at_once(monkeypatch: pytest.MonkeyPatch, head: Head) -> None:
    monkeypatch.setattr("engine.heads.model.AT_ONCE", 2)
    torch.testing.assert_close(head.model.posed(head.motion), head.vertices(), atol=1e-7, rtol=0)
