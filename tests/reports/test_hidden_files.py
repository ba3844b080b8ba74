"""Files whose names begin with a dot are not media: macOS leaves a `._NAME` beside every NAME on foreign disks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.capture.readers import load_video
from engine.files.folders import fingerprint, visible, walk
from engine.generation.video_sources import videos_in
from engine.io.image_files import load_images, save_images
from engine.io.mask_folder import load_masks, save_masks

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images, each with a macOS file beside it."""
    batch = torch.linspace(0, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    save_images(batch, tmp_path / "images")
    return with_hidden(tmp_path / "images")


def with_hidden(folder: Path) -> Path:
    for file in visible(folder):
        file.with_name(f"._{file.name}").write_bytes(APPLE_DOUBLE)
    (folder / ".DS_Store").write_bytes(b"Bud1")
    return folder


def test_reported_captures_open_as_without_their_hidden_files(
    reported: Callable[..., list[Path]], tmp_path: Path
) -> None:
    for source in reported("14_hidden_files"):
        clean = tmp_path / source.name
        shutil.copytree(source, clean, ignore=shutil.ignore_patterns(".*"))
        found, wanted = load_video(source), load_video(clean)
        assert (found.cameras.names, found.moments) == (wanted.cameras.names, wanted.moments)
        assert torch.equal(found.available, wanted.available)
        for view in range(found.views):
            image, truth = (video.source.read(view, 0).image for video in (found, wanted))
            assert (image == truth).all()


def test_batches_masks_and_videos_leave_hidden_files_out(images: Path, tmp_path: Path) -> None:
    assert load_images(images).shape == (2, 8, 8, 3)
    masks = with_hidden(save_masks(torch.eye(8).expand(2, 8, 8), tmp_path / "masks"))
    assert load_masks(masks, None, any_number=True).shape == (2, 8, 8)
    (tmp_path / "._clip.mp4").write_bytes(APPLE_DOUBLE)
    assert sorted(videos_in(tmp_path)) == ["images", "masks"]


def test_hidden_files_change_nothing_that_is_kept(images: Path) -> None:
    before = fingerprint(images)
    (images / ".DS_Store").write_bytes(b"Bud1 opened in Finder")
    assert fingerprint(images) == before
    assert [file.name for file in walk(images) if file.name.startswith(".")] == []
    next(iter(visible(images))).write_bytes(b"another image")
    assert fingerprint(images) != before
