"""Technicolor light fields: made-up captures in the published form, with cameras that are known."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.capture.readers import LoadOptions, detect_layout, load_video
from engine.capture.readers.technicolor import CALIBRATION
from engine.errors import InputError

SIZE = (32, 17)
HEADING = "f cu cv ar sk qw qx qy qz tx ty tz"
FOCAL, CENTER, ASPECT = 37.5, (15.75, 8.5), 1.02


def turned(degrees: float) -> tuple[np.ndarray, tuple[float, ...]]:
    """A rotation about y as a matrix [3, 3] and as a quaternion wxyz."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return matrix, (float(np.cos(angle / 2)), 0.0, float(np.sin(angle / 2)), 0.0)


def position(camera: int) -> np.ndarray:
    """On a grid of 4 × 4, 0.07 apart."""
    return np.array([0.07 * (camera % 4), 0.07 * (camera // 4), 0.01 * camera])


def row(camera: int, lens: tuple[float, ...] = ()) -> str:
    matrix, quaternion = turned(camera - 8.0)
    translation = -matrix @ position(camera)
    numbers = (FOCAL + camera, *CENTER, ASPECT, 0.0, *lens, *quaternion, *translation)
    return "  ".join(f"{number:.10f}" for number in numbers)


def light_field(
    folder: Path,
    prefix: str = "Painter_undist",
    frames: Iterable[int] = (1, 2, 10),
    cameras: Iterable[int] = range(16),
    lines: Iterable[str] | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        for camera in cameras:
            level = (frame, camera, 100)
            Image.new("RGB", SIZE, level).save(folder / f"{prefix}_{frame:05d}_{camera:02d}.png")
    lines = [row(c) for c in range(16)] if lines is None else lines
    (folder / CALIBRATION).write_text("\n".join([HEADING, *lines, ""]))
    return folder


@pytest.mark.parametrize("prefix", ["Painter", "Painter_undist", "take_2"])
def test_frames_cameras_and_poses_are_the_ones_written(tmp_path: Path, prefix: str) -> None:
    video = load_video(light_field(tmp_path, prefix))
    assert video.layout == "technicolor" and video.fps == 30 and video.warnings == ()
    assert (video.views, video.moments) == (16, 3) and bool(video.available.all())
    assert video.cameras.names[10] == "cam10" and video.test_views == (10,)
    for camera in range(16):
        pose = video.cameras.world_to_camera[camera].numpy()
        assert np.abs(-pose[:3, :3].T @ pose[:3, 3] - position(camera)).max() < 1e-9
        assert np.abs(pose[:3, :3] - turned(camera - 8.0)[0]).max() < 1e-9
        focal = FOCAL + camera
        truth = [[focal, 0, CENTER[0]], [0, ASPECT * focal, CENTER[1]], [0, 0, 1]]
        assert np.abs(video.cameras.K[camera].numpy() - truth).max() < 1e-9
        for moment, frame in enumerate((1, 2, 10)):
            assert video.source.read(camera, moment).image[0, 0].tolist() == [frame, camera, 100]


def test_images_may_lie_in_a_folder_of_their_own_next_to_colmap_folders(tmp_path: Path) -> None:
    light_field(tmp_path / "images")
    (tmp_path / "images" / CALIBRATION).rename(tmp_path / CALIBRATION)
    (tmp_path / "colmap_0").mkdir()
    assert detect_layout(tmp_path) == "technicolor"
    assert load_video(tmp_path).views == 16


def test_original_videos_are_straightened_and_the_guess_is_said(tmp_path: Path) -> None:
    straight = load_video(light_field(tmp_path / "a", lines=[row(c, (0.0, 0.0)) for c in range(16)]))
    assert straight.warnings == () and straight.cameras.K[0, 0, 0] == FOCAL
    bent = load_video(light_field(tmp_path / "b", lines=[row(c, (-0.1, 0.02)) for c in range(16)]))
    assert any("k1 and k2" in warning for warning in bent.warnings)
    assert bent.cameras.K[0, 0, 0] != FOCAL


def test_cameras_without_images_are_named_and_the_others_keep_their_lines(tmp_path: Path) -> None:
    video = load_video(light_field(tmp_path, cameras=[0, 5, 15]), LoadOptions(hold_out="cam05"))
    assert video.cameras.names == ("cam00", "cam05", "cam15") and video.test_views == (1,)
    assert video.cameras.K[2, 0, 0] == FOCAL + 15
    assert any("13 have no images" in warning and "cam10" in warning for warning in video.warnings)


def test_numbers_from_one_are_matched_in_order_and_said(tmp_path: Path) -> None:
    video = load_video(light_field(tmp_path, cameras=range(1, 17)))
    assert video.cameras.K[0, 0, 0] == FOCAL and video.cameras.names[0] == "cam01"
    assert any("ascending order" in warning for warning in video.warnings)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lines": [row(0)[:-20]]}, "CAP-196"),
        ({"lines": [row(0) + " abc"]}, "CAP-195"),
        ({"lines": []}, "CAP-197"),
        ({"cameras": []}, "CAP-192"),
        ({"cameras": [3, 17]}, "CAP-193"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        load_video(light_field(tmp_path, **change))
    assert caught.value.code == code


def test_original_and_undistorted_images_in_one_folder_are_refused(tmp_path: Path) -> None:
    light_field(tmp_path, "Painter")
    with pytest.raises(InputError, match="same frame of the same camera"):
        load_video(light_field(tmp_path, "Painter_undist"))
