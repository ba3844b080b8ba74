"""COLMAP models: which images show one frame, by frames.bin or by every usual way to name them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.capture.findings import check_description
from engine.capture.readers import load_video
from engine.errors import InputError
from engine.scene.video import MultiViewVideo
from tests.colmap_models import CAMERAS, FRAMES, model, pose_of

# frame and camera → name. Numbers of frames start at 1, of cameras at 0 or with gaps.
NAMES: dict[str, Callable[[int, int], str]] = {
    "camera folder": lambda f, c: f"cam{c:02d}/frame_{f:05d}.png",
    "camera folder, bare numbers": lambda f, c: f"{c:02d}/{f:05d}.png",
    "camera folder in a rig": lambda f, c: f"rig1/cam{c:02d}/frame_{f:05d}.png",
    "deep": lambda f, c: f"take_3/raw/cam{c}/rgb/{f:06d}.png",
    "images inside": lambda f, c: f"cam{c:02d}/images/{f:04d}.png",
    "frame folder": lambda f, c: f"frame_{f:05d}/cam{c:02d}.png",
    "frame folder, bare numbers": lambda f, c: f"{f:06d}/{c:02d}.png",
    "frame folder with images": lambda f, c: f"t{f:03d}/images/cam{c:02d}.png",
    "frame first": lambda f, c: f"frame{f:05d}_cam{c:02d}.png",
    "camera first": lambda f, c: f"cam{c:02d}_frame{f:05d}.png",
    "camera first, bare numbers": lambda f, c: f"{c:02d}_{f:05d}.png",
    "frame first, bare numbers": lambda f, c: f"{f:05d}_{c:02d}.png",
    "short": lambda f, c: f"c{c}f{f}.png",
    "short, frame first": lambda f, c: f"f{f}c{c}.png",
    "without zeros": lambda f, c: f"cam{7 * c}_{7 * f}.png",
    "a number for all": lambda f, c: f"scene04_cam{c:02d}_0{f}_2048.png",
    "two prefixes": lambda f, c: f"{'LR'[c % 2]}{f:04d}_{c // 2}.png",
    "sides": lambda f, c: f"{('left', 'right', 'top', 'gopro7')[c]}/{f:04d}.png",
    "side prefix": lambda f, c: f"{('left', 'right', 'top', 'back2')[c]}_{f:04d}.png",
    "side suffix": lambda f, c: f"{f:04d}_{('left', 'right', 'top', 'back2')[c]}.png",
    "sides in frame folders": lambda f, c: f"{f:04d}/{('left', 'right', 'top', 'back2')[c]}.png",
    "frame number twice": lambda f, c: f"frame_{f:03d}/cam{c}_{f:03d}.png",
    "time as a fraction": lambda f, c: f"cam{c}/1700000000.{f if f > 1 else '05'}.png",
    "clock": lambda f, c: f"cam{c}_20260101_1200{f // 2:02d}_{500 * (f % 2):03d}.png",
    "two rigs": lambda f, c: f"rig{c // 2}/cam{c % 2}/{f:04d}.png",
}  # fmt: skip


def seen(video: MultiViewVideo) -> list[tuple[int, int, int]]:
    """View, frame and camera by the pixels of all images, at the frames where they are."""
    found: list[tuple[int, int, int]] = []
    for view, moment in video.samples():
        red, green, _ = video.source.read(view, moment).image[0, 0].tolist()
        assert red == 10 * (moment + 1)
        found.append((view, moment, green // 20))
        wanted = pose_of(moment + 1, green // 20, "still")
        still = video.views == CAMERAS
        assert not still or np.allclose(video.cameras.world_to_camera[view].numpy(), wanted, atol=1e-6)
    return found


def doubts(video: MultiViewVideo) -> list[str]:
    return [w for w in video.warnings if "frame rate" not in w]


@pytest.mark.parametrize("lenses", ["each camera", "one", "each image"])
@pytest.mark.parametrize("motion", ["still", "moving"])
@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_apart(tmp_path: Path, name: str, motion: str, lenses: str) -> None:
    video = load_video(model(tmp_path, NAMES[name], motion, lenses))
    assert video.moments == FRAMES
    assert video.views == (CAMERAS if motion == "still" else CAMERAS * FRAMES)
    images = seen(video)
    assert len(images) == CAMERAS * FRAMES
    if motion == "still":
        assert all(len({c for v, _, c in images if v == view}) == 1 for view in range(CAMERAS))
    assert doubts(video) == []
    assert f"COLMAP images: {CAMERAS} cameras × {FRAMES} frames, by image names." in video.notes
    assert any(video.notes[0] == row.finding for row in check_description(video))


@pytest.mark.parametrize("motion", ["still", "moving", "apart"])
@pytest.mark.parametrize("name", NAMES)
def test_frames_of_a_rig_decide(tmp_path: Path, name: str, motion: str) -> None:
    video = load_video(model(tmp_path, NAMES[name], motion, frames="by name"))
    assert video.moments == FRAMES and len(seen(video)) == CAMERAS * FRAMES and doubts(video) == []
    assert video.notes[0] == f"COLMAP images: {CAMERAS} cameras × {FRAMES} frames, by frames.txt."


@pytest.mark.parametrize(("motion", "frames"), [("still", ""), ("still", "by name"), ("moving", "by name")])
def test_times_of_cameras_that_run_apart_are_paired(tmp_path: Path, motion: str, frames: str) -> None:
    def name(f: int, c: int) -> str:
        return f"cam{c}/{1_305_031_102_775_304_000 + 83_333_333 * f + (0, 3_000_000, -7_000_000, 11_000_000)[c]}.png"

    video = load_video(model(tmp_path, name, motion, frames=frames))
    assert video.moments == FRAMES and len(seen(video)) == CAMERAS * FRAMES
    assert np.allclose(video.times.diff().numpy(), 1 / 12, atol=1e-6) and abs((video.fps or 0) - 12) < 1e-3
    assert f"{CAMERAS} cameras × {FRAMES} frames" in video.notes[0]
    assert any("nanoseconds since 1970" in note for note in video.notes)


def test_frames_of_a_rig_decide_against_the_names(tmp_path: Path) -> None:
    """Cameras that were started one after the other have their frames shifted."""
    video = load_video(model(tmp_path, NAMES["camera folder"], frames="shifted"))
    assert (video.views, video.moments) == (CAMERAS, FRAMES + CAMERAS - 1)
    for view, moment in video.samples():
        red, green, _ = video.source.read(view, moment).image[0, 0].tolist()
        assert red // 10 - 1 + green // 20 == moment


@pytest.mark.parametrize("name", ["camera folder", "frame first", "frame folder", "camera folder in a rig"])
def test_frames_of_one_image_leave_it_to_the_names(tmp_path: Path, name: str) -> None:
    video = load_video(model(tmp_path, NAMES[name], frames="alone"))
    assert (video.views, video.moments) == (CAMERAS, FRAMES)
    assert "by image names" in video.notes[0]


@pytest.mark.parametrize(
    "name", ["camera folder", "frame first", "frame folder", "sides", "camera folder in a rig"]
)
def test_cameras_that_stand_still_use_the_frames_that_were_not_registered(tmp_path: Path, name: str) -> None:
    video = load_video(model(tmp_path, NAMES[name], registered=lambda f, c: f == 2))
    assert (video.views, video.moments) == (CAMERAS, FRAMES) and len(seen(video)) == CAMERAS * FRAMES


def test_cameras_without_a_pose_are_named(tmp_path: Path) -> None:
    video = load_video(model(tmp_path, NAMES["frame first"], registered=lambda f, c: c != 2))
    assert (video.views, video.moments) == (CAMERAS - 1, FRAMES)
    assert any("no pose for cam02" in w for w in video.warnings)


def test_images_of_moving_cameras_that_were_not_registered_are_counted(tmp_path: Path) -> None:
    video = load_video(model(tmp_path, NAMES["camera folder"], "moving", registered=lambda f, c: f != 3))
    assert video.moments == FRAMES - 1
    assert any(
        "4 image files are not in the COLMAP model" in w and "frame_00003" in w for w in video.warnings
    )


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    """Two numbers without words, one lens, cameras that move on their own: either could count the frames."""
    video = load_video(model(tmp_path, NAMES["camera folder, bare numbers"], "apart", "one"))
    assert any("unsure" in w for w in video.warnings)


@pytest.mark.parametrize("cut", [9, 10, 12])
def test_a_damaged_list_of_frames_is_refused(tmp_path: Path, cut: int) -> None:
    model(tmp_path, NAMES["camera folder"], frames="by name")
    file = tmp_path / "sparse/0/frames.txt"
    file.write_text(" ".join(file.read_text().splitlines()[1].split()[:cut]) + "\n")
    with pytest.raises(InputError, match=r"frames\.txt"):
        load_video(tmp_path)


def test_reported_models_have_six_frames(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("01_colmap_moments"):
        video = load_video(folder)
        assert video.moments == FRAMES, folder.name
        assert int(video.available.sum()) == CAMERAS * FRAMES, folder.name
        assert f"{CAMERAS} cameras × {FRAMES} frames" in video.notes[0], folder.name
        assert "still" not in folder.name or video.views == CAMERAS, folder.name


def test_two_images_that_read_as_one_are_refused(tmp_path: Path) -> None:
    """One would take the other's place, and nobody would know which was trained on."""

    def name(f: int, c: int) -> str:
        return f"cam{c}/{f:02d}.png" if f < FRAMES else f"cam{c}/{1}.png"

    with pytest.raises(InputError, match=r"both read as frame 1 of camera.*CAP-241"):
        load_video(model(tmp_path, name))
