"""ComfyUI's FACE_LANDMARKS become the engine's face frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine.files.npzfile
import engine.heads.landmarks  # noqa: F401 - what nodes/landmarks.py imports
from engine.errors import InputError
from tests.pack_modules import pack_module

landmarks = pack_module("landmarks")


def face(size: float = 10, **scores: float) -> dict[str, Any]:
    return {
        "bbox_xyxy": np.array([0, 0, size, size]),
        "blendshapes": {"_neutral": 0.1, **scores},
        "transformation_matrix": np.eye(4, dtype=np.float32),
    }


def test_the_largest_face_of_each_frame_is_taken_and_said() -> None:
    faces, note = landmarks.faces_of(
        {"frames": [[face(5, jawOpen=0.1), face(20, jawOpen=0.7)], [], [face()]]}
    )
    assert faces[0].scores["jawOpen"] == 0.7 and faces[1] is None
    assert note == "1 of 3 frames show several faces: the largest is used"


def test_a_face_without_a_transform_is_read() -> None:
    plain = face()
    plain["transformation_matrix"] = None
    faces, _ = landmarks.faces_of({"frames": [[plain]]})
    assert faces[0].transform is None


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        {"frames": [[{}]]},
        {"frames": [[{**face(), "blendshapes": {"jawOpen": float("nan")}}]]},
        {"frames": [[{**face(), "transformation_matrix": np.eye(3)}]]},
    ],
)
def test_anything_else_is_one_sentence(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be read .+ MediaPipe Face Landmarker\. \[GS4D-NOD-028\]"):
        landmarks.faces_of(wrong)


def test_a_score_matrix_is_read_and_checked(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "m.npz", names=np.array(["jawOpen"]), expression=np.ones((1, 4)), jaw=np.zeros((1, 3))
    )
    matrix = landmarks.read_matrix(tmp_path / "m.npz")
    assert matrix.names == ("jawOpen",) and matrix.expression.shape == (1, 4) and matrix.jaw.shape == (1, 3)
    np.savez(tmp_path / "w.npz", names=np.array(["a", "b"]), expression=np.ones((1, 4)))
    np.savez(tmp_path / "o.npz", names=np.array([{}], dtype=object), expression=np.ones((1, 4)))
    np.savez(tmp_path / "n.npz", expression=np.ones((1, 4)))
    np.savez_compressed(tmp_path / "b.npz", names=np.array(["a" * 2**20]), expression=np.ones((1, 4)))
    for name in ("w", "o", "n", "b"):
        with pytest.raises(InputError, match="not a score matrix"):
            landmarks.read_matrix(tmp_path / f"{name}.npz")
