"""Head motion from blend-shape scores: names, gaze, gaps, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from engine.errors import InputError
from engine.heads import HeadModel
from engine.heads.landmarks import ARKIT, FaceFrame, ScoreMatrix, motion_of_faces
from engine.io.heads import bundled_head, read_head_model
from engine.scene.rotations import axis_angles_to_matrices
from tests.tiny_head import tiny_model


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return read_head_model(bundled_head())


def turned(degrees: float, x: float = 0.0) -> torch.Tensor:
    transform = torch.eye(4, dtype=torch.float64)
    vector = torch.tensor([0.0, math.radians(degrees), 0.0], dtype=torch.float64)
    transform[:3, :3] = axis_angles_to_matrices(vector)
    transform[:3, 3] = torch.tensor([x, 0.0, -40.0])
    return transform


def test_arkit_has_52_names_and_the_bundled_head_has_them_all(model: HeadModel) -> None:
    assert len(ARKIT) == 52
    assert set(model.expression_names) == ARKIT


def test_scores_become_the_expressions_of_the_same_names(model: HeadModel) -> None:
    faces = [FaceFrame({"jawOpen": 0.25, "mouthSmileLeft": 0.5, "_neutral": 1.0}), FaceFrame({})]
    motion, note = motion_of_faces(faces, model, 25)
    assert note == ""
    named = dict(zip(model.expression_names, motion.expr[0].tolist(), strict=True))
    assert {name: value for name, value in named.items() if value} == {"jawOpen": 0.25, "mouthSmileLeft": 0.5}
    assert motion.times.tolist() == [0.0, 0.04]
    assert not bool(motion.expr[1].any())


def test_the_eyes_look_to_the_side_that_the_scores_say(model: HeadModel) -> None:
    motion, _ = motion_of_faces([FaceFrame({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0})], model, 25)
    for eye in motion.eyes_pose[0].split(3):
        forward = axis_angles_to_matrices(eye) @ torch.tensor([0.0, 0.0, 1.0])
        assert float(forward[0]) == pytest.approx(math.sin(math.radians(30)), abs=1e-5)
    motion, _ = motion_of_faces([FaceFrame({"eyeLookUpLeft": 1.0, "eyeLookUpRight": 1.0})], model, 25)
    forward = axis_angles_to_matrices(motion.eyes_pose[0, :3]) @ torch.tensor([0.0, 0.0, 1.0])
    assert float(forward[1]) > 0.4


def test_the_head_turns_and_shifts_with_its_transform(model: HeadModel) -> None:
    motion, _ = motion_of_faces([FaceFrame({}, turned(0)), FaceFrame({}, turned(20, x=5))], model, 25)
    torch.testing.assert_close(
        motion.rotation[1], torch.tensor([0.0, math.radians(20), 0.0]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(motion.translation[1], torch.tensor([0.05, 0.0, 0.0]))


def test_gaps_are_interpolated_and_the_ends_repeated(model: HeadModel) -> None:
    faces = [
        None,
        FaceFrame({"jawOpen": 0.0}, turned(0)),
        None,
        FaceFrame({"jawOpen": 1.0}, turned(40)),
        None,
    ]
    motion, note = motion_of_faces(faces, model, 10)
    jaw = motion.expr[:, model.expression_names.index("jawOpen")]
    torch.testing.assert_close(jaw, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    assert float(motion.rotation[2, 1]) == pytest.approx(math.radians(20), abs=1e-5)
    assert note == "3 of 5 frames without a face were interpolated"


def test_a_matrix_serves_models_without_names() -> None:
    model = tiny_model()
    matrix = ScoreMatrix(("jawOpen",), torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.3, 0.0, 0.0]]))
    motion, _ = motion_of_faces([FaceFrame({"jawOpen": 0.5})], model, 25, matrix)
    torch.testing.assert_close(motion.expr[0], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(motion.jaw_pose[0], torch.tensor([0.15, 0.0, 0.0]))


def test_what_cannot_be_matched_is_refused(model: HeadModel) -> None:
    with pytest.raises(InputError, match="No face was found in any of the 3 frames"):
        motion_of_faces([None] * 3, model, 25)
    with pytest.raises(InputError, match="enter the video's frames per second"):
        motion_of_faces([FaceFrame({})], model, 0)
    with pytest.raises(InputError, match="0 expressions with ARKit's names"):
        motion_of_faces([FaceFrame({})], tiny_model(), 25)
    matrix = ScoreMatrix(("jawOpen",), torch.zeros(1, 7))
    with pytest.raises(InputError, match=r"shape \(1, 7\), expected \(1, 3\)"):
        motion_of_faces([FaceFrame({})], replace(tiny_model()), 25, matrix)
