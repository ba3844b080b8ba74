"""COLMAP captures with several models, undistorted workspaces, or one model for each frame."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.readers import detect_layout, load_video
from engine.errors import InputError
from engine.files.folders import visible
from engine.scene.rotations import matrices_to_quats
from tests.colmap_models import CAMERAS, FRAMES, SIZE, model, pose_of, turn


def name(frame: int, camera: int) -> str:
    return f"cam{camera:02d}/frame_{frame:05d}.png"


def small(folder: Path, to: str, cameras: list[int], names: str = "cam{:02d}.png") -> None:
    """A model of single images."""
    target = folder / to
    target.mkdir(parents=True)
    lines: list[str] = []
    for c in cameras:
        pose = pose_of(1, c, "still")
        quaternion = matrices_to_quats(torch.tensor(pose[:3, :3])).tolist()
        lines.append(f"{c + 1} {' '.join(map(str, [*quaternion, *pose[:3, 3]]))} 1 {names.format(c)}\n\n")
    (target / "cameras.txt").write_text("1 PINHOLE 32 24 40 40 16 12\n")
    (target / "images.txt").write_text("".join(lines))


@pytest.mark.parametrize("second", ["sparse/1", "sparse"])
def test_the_largest_model_is_used_and_the_others_are_named(tmp_path: Path, second: str) -> None:
    model(tmp_path, name, registered=lambda f, c: c < 2)
    small(tmp_path, "else", [0, 1, 2, 3], "cam{:02d}/frame_00001.png")
    for file in visible(tmp_path / "else"):
        (tmp_path / second).mkdir(exist_ok=True)
        shutil.move(file, tmp_path / second / file.name)
    (tmp_path / "sparse/0/images.txt").write_text((tmp_path / "sparse/0/images.txt").read_text()[:0])
    small(tmp_path, "sparse/2", [0, 1], "cam{:02d}/frame_00001.png")
    video = load_video(tmp_path)
    assert (video.views, video.moments) == (CAMERAS, FRAMES)
    said = next(w for w in video.warnings if "models" in w)
    assert f"is used, {second} (4 images)" in said
    assert "sparse/0 (0 images), sparse/2 (2 images)" in said


def test_folders_without_a_camera_are_named(tmp_path: Path) -> None:
    model(tmp_path, name)
    shutil.rmtree(tmp_path / "sparse")
    small(tmp_path, "sparse/0", [0, 1, 3], "first/cam{:02d}.png")
    (tmp_path / "images/masks").mkdir()
    video = load_video(tmp_path)
    assert (video.cameras.names, video.moments) == (("cam00", "cam01", "cam03"), FRAMES)
    assert next(w for w in video.warnings if "no pose for" in w).startswith(
        "COLMAP has no pose for cam02; it is"
    )


@pytest.mark.parametrize("workspace", ["dense", "dense/0", "colmap/dense/0"])
@pytest.mark.parametrize("inner", ["sparse", "sparse/0"])
def test_undistorted_workspaces_are_read_with_their_images(
    tmp_path: Path, workspace: str, inner: str
) -> None:
    model(tmp_path / "made", name)
    (tmp_path / workspace / inner).parent.mkdir(parents=True)
    shutil.move(tmp_path / "made/sparse/0", tmp_path / workspace / inner)
    shutil.move(tmp_path / "made/images", tmp_path / workspace / "images")
    assert detect_layout(tmp_path) == "colmap"
    video = load_video(tmp_path)
    assert (video.views, video.moments) == (CAMERAS, FRAMES)
    assert "4 cameras × 6 frames" in video.notes[0]


def test_undistorted_images_are_never_used_with_the_distorted_model(tmp_path: Path) -> None:
    model(tmp_path, name)
    shutil.copytree(tmp_path / "sparse/0", tmp_path / "dense/sparse")
    shutil.move(tmp_path / "images", tmp_path / "dense/images")
    (tmp_path / "sparse/0/cameras.txt").write_text(
        "".join(f"{c} PINHOLE 32 24 99 99 16 12\n" for c in (1, 2, 3, 4))
    )
    assert float(load_video(tmp_path).cameras.K[0, 0, 0]) == 40


def per_frame(folder: Path, prefix: str, drift: float = 0.0, common: bool = False) -> Path:
    """A model a frame; unless `common`, each has coordinates of its own. `drift` moves one camera in the last frame."""
    for f in range(FRAMES):
        base = folder / f"{prefix}{f}"
        sparse = base / "sparse/0"
        sparse.mkdir(parents=True)
        world, scale = turn(0.0 if common else 40.0 * f), 1.0 if common else 1.0 + 0.3 * f
        lines: list[str] = []
        for c in range(CAMERAS):
            (base / "images").mkdir(exist_ok=True)
            Image.new("RGB", SIZE, (10 * (f + 1), 20 * c, 128)).save(base / f"images/cam{c:02d}.png")
            pose = pose_of(1, c, "still") @ world
            pose[0, 3] += drift * (f == FRAMES - 1) * (c == 2)
            pose[:3, 3] *= scale
            quaternion = matrices_to_quats(torch.tensor(pose[:3, :3])).tolist()
            numbers = " ".join(map(str, [*quaternion, *pose[:3, 3]]))
            lines.append(f"{c + 1} {numbers} 1 cam{c:02d}.png\n\n")
        (sparse / "cameras.txt").write_text("1 PINHOLE 32 24 40 40 16 12\n")
        (sparse / "images.txt").write_text("".join(lines))
        (sparse / "points3D.txt").write_text("")
    return folder


@pytest.mark.parametrize("common", [True, False], ids=["common", "own coordinates"])
@pytest.mark.parametrize("prefix", ["colmap_", "frame", "", "t_00"])
def test_a_model_for_each_frame(tmp_path: Path, prefix: str, common: bool) -> None:
    video = load_video(per_frame(tmp_path, prefix, 1e-4, common))
    assert (video.views, video.moments, video.layout) == (CAMERAS, FRAMES, "colmap")
    assert bool(video.available.all())
    for view, moment in video.samples():
        assert video.source.read(view, moment).image[0, 0].tolist() == [10 * (moment + 1), 20 * view, 128]
        assert np.allclose(video.cameras.world_to_camera[view].numpy(), pose_of(1, view, "still"), atol=1e-6)
    assert any("own COLMAP model" in w for w in video.warnings)


def test_models_of_cameras_that_moved_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"colmap_5 differ") as caught:
        load_video(per_frame(tmp_path, "colmap_", 0.5))
    assert caught.value.code == "CAP-202"


def test_models_of_other_names_or_without_images_are_refused(tmp_path: Path) -> None:
    folder = per_frame(tmp_path, "colmap_")
    for base in visible(folder):
        shutil.rmtree(base / "images")
    with pytest.raises(InputError) as caught:
        load_video(folder)
    assert caught.value.code == "CAP-200"


def test_reported_captures_name_what_they_leave_out(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("03_unposed_cameras"):
        video = load_video(folder)
        lost = {p.stem for p in visible(folder / "videos")} - set(video.cameras.names)
        said = [w for w in video.warnings if "no pose for" in w]
        assert all(any(n in w for w in said) for n in lost), folder.name
        if folder.name == "colmap_two_models":
            assert video.views == 9 and len(lost) == 3
            assert any("sparse/1 (9 images)" in w and "sparse/0 (3 images)" in w for w in video.warnings)


def test_reported_dense_folders_are_read(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("16_dense_folder"):
        video = load_video(folder)
        assert video.views >= 4, folder.name
        assert folder.name != "dense_only" or video.notes == (
            "COLMAP images: 4 cameras × 1 frame, by image names.",
        )
