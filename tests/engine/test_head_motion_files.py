"""Head parameters from files: those of an avatar, those of a capture, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.heads import Head
from engine.io.heads import read_head_model, read_head_motion, read_timed_motion
from tests.tiny_head import tiny_head


def write_motion(path: Path, head: Head, **changed: Any) -> Path:
    motion = head.motion
    arrays = {k: t.numpy() for k, t in motion.tensors().items() if k != "times"}
    arrays["static_offset"] = 0.001 * np.ones((1, 50, 3), np.float32)
    arrays["dynamic_offset"] = np.ones((len(motion), 50, 3), np.float32)
    kept: dict[str, Any] = {k: v for k, v in (arrays | changed).items() if v is not None}
    np.savez(path, **kept)
    return path


def write_capture(folder: Path, head: Head, order: tuple[int, ...] = (2, 0, 1, 3)) -> Path:
    """Frame i of the head at time step order[i], the last one in the test split."""
    (folder / "flame_param").mkdir()
    frames: list[dict[str, Any]] = []
    for i, step in enumerate(order):
        one = Head(head.model, head.motion.frames(slice(i, i + 1)))
        write_motion(folder / f"flame_param/{step:05d}.npz", one, dynamic_offset=None)
        frames += [{"timestep_index": step, "flame_param_path": f"flame_param/{step:05d}.npz"}] * 2
    for split, part in (("train", frames[:-2]), ("test", frames[-2:])):
        (folder / f"transforms_{split}.json").write_text(json.dumps({"frames": part}))
    return folder


def test_parameters_of_an_avatar(tmp_path: Path) -> None:
    head = tiny_head()
    motion = read_head_motion(write_motion(tmp_path / "flame_param.npz", head), frames_per_second=10)
    torch.testing.assert_close(motion.times, head.motion.times)
    for name in ("shape", "expr", "rotation", "eyes_pose", "translation"):
        assert torch.equal(getattr(motion, name), getattr(head.motion, name))
    assert motion.static_offset is not None and motion.static_offset.shape == (50, 3)
    assert torch.equal(read_head_motion(tmp_path).expr, head.motion.expr)


def test_parameters_of_a_capture_come_in_the_order_of_time(tmp_path: Path) -> None:
    head = tiny_head()
    motion = read_head_motion(write_capture(tmp_path, head), frames_per_second=10)
    assert torch.equal(motion.expr, head.motion.expr[[1, 2, 0, 3]])
    torch.testing.assert_close(motion.times, torch.arange(4, dtype=torch.float64) / 10)


def test_a_rate_that_no_file_stores_is_assumed_and_said(tmp_path: Path) -> None:
    """25 frames per second in both files of a head, and the same in its images (the avatar reader)."""
    head = tiny_head()
    write_capture(tmp_path, head, (0, 1, 2, 3))
    npz = write_motion(tmp_path / "one.npz", head)
    for source in (tmp_path, npz):
        motion, note = read_timed_motion(source)
        torch.testing.assert_close(motion.times, torch.arange(4, dtype=torch.float64) / 25)
        assert note.startswith(f"{source.name} stores no frame rate: 25 frames per second are assumed.")
        assert read_timed_motion(source, 12)[1] == ""
    stored = json.loads((tmp_path / "transforms_train.json").read_text()) | {"fps": 12}
    (tmp_path / "transforms_train.json").write_text(json.dumps(stored))
    motion, note = read_timed_motion(tmp_path)
    assert note == "" and float(motion.times[3]) == 3 / 12
    assert Head(head.model, motion, "a", "assumed").summary().endswith("\nassumed")
    assert "\n" not in Head(head.model, motion, "a").summary()


def test_only_the_frames_of_a_video_are_taken(tmp_path: Path) -> None:
    head = tiny_head()
    chosen = torch.tensor([0.1, 0.3], dtype=torch.float64)
    motion = read_head_motion(write_capture(tmp_path, head, (0, 1, 2, 3)), 10).at(chosen, "A", "clip")
    assert torch.equal(motion.expr, head.motion.expr[[1, 3]])


def test_parameters_shorter_than_the_video_are_refused_with_both_counts() -> None:
    seconds = torch.arange(6, dtype=torch.float64) / 10
    with pytest.raises(
        InputError, match=r"A has parameters for 4 frames from 0 to 0.3 s, but 2 of clip's 6 frames have none"
    ):
        tiny_head().motion.at(seconds, "A", "clip")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"rotation": np.zeros((3, 3))},
            r"'rotation' has shape \(3, 3\), expected \(4, 3\). 'expr' has 4 frames",
        ),
        ({"expr": np.zeros(3)}, "'expr' has shape"),
        ({"jaw_pose": None}, "no head parameters named jaw_pose"),
        ({"expr": np.full((4, 3), np.inf)}, "'expr' holds NaN"),
        ({"expr": np.array([{}])}, "Python objects"),
        ({"static_offset": np.zeros((4, 50, 3))}, "'static_offset' has shape"),
    ],
)
def test_what_is_wrong_with_parameters_is_named(
    tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        read_head_motion(write_motion(tmp_path / "flame_param.npz", tiny_head(), **changed))


def test_frames_of_two_heads_are_refused(tmp_path: Path) -> None:
    head = tiny_head()
    write_capture(tmp_path, head)
    write_motion(tmp_path / "flame_param/00003.npz", tiny_head(frames=1, seed=9))
    with pytest.raises(InputError, match=r"'shape' of flame_param/00003.npz differs"):
        read_head_motion(tmp_path)


def test_a_folder_without_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no head parameters"):
        read_head_motion(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_head_motion(tmp_path / "flame_param.npz")


def test_parameters_may_not_lie_outside_the_folder(tmp_path: Path) -> None:
    data = {"frames": [{"timestep_index": 0, "flame_param_path": "../x.npz"}]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="FIL-031"):
        read_head_motion(tmp_path)


def test_the_shared_head_is_posed_as_its_truth_says(layouts_folder: Path) -> None:
    folder = layouts_folder / "head_A"
    if not folder.is_dir():
        pytest.skip("head_A is not in GS4D_LAYOUTS")
    model = read_head_model(layouts_folder / "head_model" / "head_model.npz")
    assert (model.shapes, model.expressions, len(model.expression_names)) == (300, 100, 100)
    head = Head(model, read_head_motion(folder, 6))
    check = np.load(folder / "mesh_check" / "vertices.npz")
    posed = head.vertices()[check["timestep_index"].tolist()]
    torch.testing.assert_close(posed, torch.from_numpy(check["vertices"]), atol=1e-6, rtol=0)
