"""Head captures of VHAP and GaussianAvatars: one view a camera, principal points, masks, and what is held out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.findings import check_description
from engine.capture.readers import LoadOptions, detect_layout, load_video
from engine.errors import InputError
from engine.files.images import image_size
from engine.heads.motion import USUAL_HEAD_FPS
from engine.scene import Frame
from engine.train.config import FitConfig
from engine.train.fit import Fit
from tests.engine.test_readers import FLIP, pose, save
from tests.scenes import RenderedFrames, capture_of, moving_scene

Splits = dict[str, list[dict[str, Any]]]
# a mask that leaves a margin
SUBJECT = np.pad(np.full((20, 28), 255, np.uint8), 2)


def record(step: int, camera: int, **more: Any) -> dict[str, Any]:
    name = f"{step:05d}_{camera:02d}"
    return {
        "timestep_index": step,
        "camera_index": camera,
        "camera_id": f"2220{camera}",
        "cx": 15.0 + camera,
        "cy": 12.0,
        "transform_matrix": (np.linalg.inv(pose(0.5 * camera)) @ FLIP).tolist(),
        "file_path": f"images/{name}.png",
        "fg_mask_path": f"fg_masks/{name}.png",
        "flame_param_path": f"flame_param/{step:05d}.npz",
        **more,
    }


def avatar(folder: Path, change: Callable[[Splits], Any] = lambda splits: None) -> Path:
    """3 cameras × 5 time steps: camera 1 validates, step 4 tests."""
    splits: Splits = {"train": [], "val": [], "test": []}
    for step in range(5):
        for camera in range(3):
            name = f"{step:05d}_{camera:02d}.png"
            save(folder / "images" / name, 20 * step + camera)
            (folder / "fg_masks").mkdir(exist_ok=True)
            Image.fromarray(SUBJECT).save(folder / "fg_masks" / name)
            split = "test" if step == 4 else "val" if camera == 1 else "train"
            splits[split].append(record(step, camera))
    change(splits)
    for split, frames in splits.items():
        if frames:
            data = {"fl_x": 40.0, "w": 32, "h": 24, "frames": frames}
            (folder / f"transforms_{split}.json").write_text(json.dumps(data))
    return folder


def test_one_view_a_camera_with_its_principal_point_and_masks(tmp_path: Path) -> None:
    video = load_video(avatar(tmp_path), LoadOptions(frames_per_second=10))
    assert video.layout == "avatar" and video.cameras.names == ("22200", "22201", "22202")
    assert (video.views, video.moments, bool(video.available.all())) == (3, 5, True)
    assert video.cameras.K[:, 0, 2].tolist() == [15.0, 16.0, 17.0]
    assert torch.allclose(video.cameras.world_to_camera[2], torch.tensor(pose(1.0)), atol=1e-9)
    assert torch.allclose(video.times, torch.arange(5, dtype=torch.float64) / 10) and video.fps == 10
    frame = video.source.read(1, 3)
    assert (
        int(frame.image[0, 0, 0]) == 61 and frame.mask is not None and (frame.mask.numpy() == SUBJECT).all()
    )
    assert video.background is not None and video.background.tolist() == [1, 1, 1]
    assert not video.warnings


def test_one_camera_and_one_sequence_are_held_out(tmp_path: Path) -> None:
    video = load_video(avatar(tmp_path))
    assert video.test_views == (1,) and video.views_to_train() == (0, 2) and video.test_moments == (4,)
    assert load_video(tmp_path, LoadOptions(hold_out="")).test_moments == ()
    later = load_video(tmp_path, LoadOptions(first_frame=1, frame_step=3))
    assert later.moments == 2 and later.test_moments == (1,)
    assert load_video(tmp_path, LoadOptions(frame_count=3)).test_moments == ()


def test_opening_decodes_no_image_and_looks_at_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar(tmp_path)
    looked: list[str] = []

    def size(path: Path, name: str) -> tuple[int, int]:
        looked.append(name)
        return image_size(path, name)

    monkeypatch.setattr("engine.files.images.image_size", size)
    monkeypatch.setattr("engine.files.images.read_image", lambda *_: pytest.fail("an image was decoded"))
    video = load_video(tmp_path)
    assert len(looked) == len(set(looked)) == 2 * video.views * video.moments


def test_the_check_before_training_says_what_is_held_out(tmp_path: Path) -> None:
    rows = [f.finding for f in check_description(load_video(avatar(tmp_path))) if f.subject == "held out"]
    assert len(rows) == 2 and "22201" in rows[0] and rows[1].startswith("1 of 5 frames")


def test_validation_frames_of_a_training_camera_are_held_out_in_time(tmp_path: Path) -> None:
    def one_camera(splits: Splits) -> None:
        splits["train"] = [record(step, 0) for step in (0, 1, 3)]
        splits["val"], splits["test"] = [record(2, 0)], [record(4, 0)]

    video = load_video(avatar(tmp_path, one_camera))
    assert video.test_views == () and video.test_moments == (2, 4)


def test_frames_that_are_also_trained_on_are_not_held_out(tmp_path: Path) -> None:
    video = load_video(avatar(tmp_path, lambda s: s.update(test=s["train"])))
    assert video.test_moments == () and any("transforms_test.json lists" in w for w in video.warnings)


def test_the_layout_is_recognized_by_either_file(tmp_path: Path) -> None:
    assert detect_layout(avatar(tmp_path / "a")) == "avatar"

    def without_parameters(splits: Splits) -> None:
        for frames in splits.values():
            for frame in frames:
                del frame["flame_param_path"]

    other = avatar(tmp_path / "b", without_parameters)
    assert detect_layout(other) == "dnerf"
    (other / "canonical_flame_param.npz").write_bytes(b"")
    assert detect_layout(other) == "avatar"


def test_a_capture_without_a_rate_has_that_of_its_head(tmp_path: Path) -> None:
    video = load_video(avatar(tmp_path))
    assert video.fps == USUAL_HEAD_FPS == 25
    assert any("25 frames per second are assumed" in line for line in video.warnings)


def test_a_gap_between_time_steps_is_a_gap_in_time(tmp_path: Path) -> None:
    def without_two(splits: Splits) -> None:
        for name in ("train", "val"):
            splits[name] = [f for f in splits[name] if f["timestep_index"] != 2]

    video = load_video(avatar(tmp_path, without_two), LoadOptions(frames_per_second=10))
    assert torch.allclose(video.times, torch.tensor([0.0, 0.1, 0.3, 0.4], dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda s: s["train"][-1].update(transform_matrix=record(0, 1)["transform_matrix"]),
            r'00003_02.png: camera 22202 is .* stay fixed.*"dnerf"',
        ),
        (lambda s: s["train"][-1].update(w=30, h=20), r"camera 22202 has 30 × 20 pixels instead of 32 × 24"),
        (
            lambda s: s["train"].append(record(0, 0, file_path="images/00001_00.png")),
            "both show camera 22200",
        ),
        (lambda s: s["val"][0].update(timestep_index=1.5), r"timestep_index is 1.5.*integer"),
        (lambda s: s["val"][0].pop("camera_index"), "camera_index is missing"),
        (lambda s: s.pop("train"), "transforms_train.json is missing"),
        (lambda s: s["test"][0].update(file_path="../x.png"), "is outside"),
        (lambda s: s["test"][0].update(fg_mask_path="fg_masks/9.png"), "9.png is missing"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change: Callable[[Splits], Any], sentence: str) -> None:
    avatar(tmp_path, change)
    (tmp_path / "canonical_flame_param.npz").write_bytes(b"")
    with pytest.raises(InputError, match=sentence):
        load_video(tmp_path)


def test_a_moving_camera_can_be_read_as_dnerf(tmp_path: Path) -> None:
    moved = record(0, 1)["transform_matrix"]
    video = load_video(
        avatar(tmp_path, lambda s: s["train"][-1].update(transform_matrix=moved)), LoadOptions(layout="dnerf")
    )
    assert video.views > 3


def test_held_out_moments_are_not_trained_on() -> None:
    video = replace(capture_of(moving_scene(count=30, views=4, moments=4)), test_moments=(1, 3))
    config = FitConfig(iterations=3, budget=40, initial_count=30, preview_every=0)
    assert set(Fit(video, config, "cpu").samples) == {0, 2}
    whole = replace(config, keeps_test_views_out=False)
    assert set(Fit(video, whole, "cpu").samples) == {0, 1, 2, 3}


@pytest.mark.parametrize(("held", "every"), [((1, 2), 0), ((), 2)])
def test_training_never_looks_at_a_held_out_frame(
    monkeypatch: pytest.MonkeyPatch, held: tuple[int, ...], every: int
) -> None:
    """Neither while it trains nor before, where silhouettes give the box and the first Gaussians."""
    video = replace(capture_of(moving_scene(count=60, views=6, moments=4)), test_moments=held)
    looked: set[int] = set()
    read = RenderedFrames.read

    def note(source: RenderedFrames, view: int, moment: int) -> Frame:
        looked.add(moment)
        return read(source, view, moment)

    monkeypatch.setattr(RenderedFrames, "read", note)
    config = FitConfig(iterations=12, budget=40, initial_count=30, preview_every=1, hold_out_every=every)
    work = Fit(video, config, "cpu")
    assert "hull" in work.origin and work.order.anchor in work.samples
    for _ in range(12):
        work.step()
        work.preview()
    assert looked == set(work.samples) == ({0, 3} if held else {0, 2})


def test_the_shared_head_capture_is_read_as_its_truth_says(layouts_folder: Path) -> None:
    folder = layouts_folder / "head_A"
    if not folder.is_dir():
        pytest.skip("head_A is not in GS4D_LAYOUTS")
    truth = json.loads((folder / "truth.json").read_text())
    video = load_video(folder, LoadOptions(frames_per_second=truth["fps"]))
    assert (video.layout, video.views, video.moments) == ("avatar", 8, 24)
    assert bool(video.available.all()) and video.has_masks
    assert video.test_views == (4,) and video.test_moments == tuple(range(18, 24))
    assert list(video.cameras.names) == [view["name"] for view in truth["views"]]
    K = torch.tensor([view["K"] for view in truth["views"]], dtype=torch.float64)
    poses = torch.tensor([view["world_to_camera"] for view in truth["views"]], dtype=torch.float64)
    torch.testing.assert_close(video.cameras.K, K, atol=1e-9, rtol=0)
    torch.testing.assert_close(video.cameras.world_to_camera, poses, atol=1e-9, rtol=0)
    seconds = torch.tensor([frame["seconds"] for frame in truth["frames"]], dtype=torch.float64)
    torch.testing.assert_close(video.times, seconds, atol=1e-9, rtol=0)
    frame = video.source.read(3, 20)
    assert frame.mask is not None
    stored = np.asarray(Image.open(folder / "images/00020_03.png").convert("RGB"))
    # the stored image lies on white already: colors at soft edges are the subject's own, so that it lies there once
    share = frame.mask.numpy()[..., None] / 255
    assert np.abs(frame.image.numpy() * share + 255 * (1 - share) - stored).max() <= 1
    assert (frame.image.numpy() == stored)[frame.mask.numpy() == 255].all()
    assert (frame.mask.numpy() == np.asarray(Image.open(folder / "fg_masks/00020_03.png").convert("L"))).all()
