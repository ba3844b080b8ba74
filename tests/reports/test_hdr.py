"""HLG and PQ come out as the SDR colors they show, and captures that mix HDR and SDR are named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.capture import hdr
from engine.capture.readers import load_video, write_cameras_json
from engine.capture.single_video import load_clip
from engine.capture.video_file import VideoFile, probe
from engine.capture.video_pixels import to_grey
from engine.errors import InputError
from tests.engine.test_frames import rig, write_video
from tests.video_files import write_hdr, write_planes

# the reports' scene: a white bar crosses a gray wall
WHITE, GRAY = 230, 60
COLORS = ((230, 230, 230), (60, 60, 60), (128, 128, 128), (200, 40, 40), (40, 200, 40), (40, 40, 200))


def test_white_and_gray_of_the_reports(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("08_hdr", "cap_*"):
        video = load_video(folder)
        assert any("tone-mapped to SDR" in note for note in video.notes), folder.name
        for view, name in enumerate(video.cameras.names):
            image = video.source.read(view, 15).image.numpy().astype(int)
            # most of the picture is wall; no corner's color has so high a minimum of channels as the bar
            wall = np.median(image.reshape(-1, 3), axis=0)
            bar = image.reshape(-1, 3)[image.min(axis=2).argmax()]
            assert np.abs(wall - GRAY).max() <= 3, (folder.name, name, wall)
            assert np.abs(bar - WHITE).max() <= 5, (folder.name, name, bar)


@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv444p10le", "yuv420p12le"])
def test_sdr_colors_come_back(tmp_path: Path, transfer: str, full_range: bool, pixel_format: str) -> None:
    path = write_hdr(tmp_path / "a.mkv", COLORS, transfer, full_range, pixel_format=pixel_format)
    clip = load_clip(path)
    found = 255 * clip.frames[1, 24, 8::16].numpy()
    assert np.abs(found - COLORS).max() < 3, found
    assert len(clip.notes) == 1 and f"{transfer}: a.mkv" in clip.notes[0]


@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
def test_highlights_keep_order_and_hue(transfer: str) -> None:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16)
    gray = hdr.to_sdr(np.repeat(ramp[None, :, None], 3, axis=2), transfer)[0].astype(int)
    assert (np.diff(gray[:, 0]) >= 0).all() and gray[-1, 0] == 255 and np.ptp(gray, axis=1).max() <= 1
    white = {"HLG": 0.75, "PQ": 0.5807}[transfer] * 65535
    assert 245 <= gray[np.abs(ramp - white).argmin(), 0] <= 255
    orange = hdr.compress_highlights(np.array([[4.0, 2.0, 1.0]], np.float32))[0]
    assert orange[0] <= 1 and np.allclose(orange / orange[0], (1, 0.5, 0.25), atol=1e-5)


def test_mixed_captures_are_named(tmp_path: Path) -> None:
    cameras = rig(3, (96, 48))
    files = [f"videos/{name}.mkv" for name in cameras.names]
    (tmp_path / "videos").mkdir()
    write_hdr(tmp_path / files[0], COLORS, "HLG")
    write_video(tmp_path / files[1], 2, size=(96, 48))
    write_hdr(tmp_path / files[2], COLORS, "PQ")
    write_cameras_json(tmp_path, cameras, 30.0, videos=files)
    warnings = load_video(tmp_path).warnings
    named = next(w for w in warnings if "mix HDR and SDR" in w)
    assert all(f"{kind}: {file}" in named for kind, file in zip(("HLG", "SDR", "PQ"), files, strict=True))
    for file in (files[1], files[2]):
        shutil.copy(tmp_path / files[0], tmp_path / file)
    video = load_video(tmp_path)
    assert not any("HDR" in w for w in video.warnings) and "HLG" in " ".join(video.notes)


def test_masks_are_not_tone_mapped(tmp_path: Path) -> None:
    path = write_planes(tmp_path / "a.mkv", [np.array([64 + 438.0]), *[np.array([512.0])] * 2], 18, 9)
    facts = probe(path, path.name)
    assert facts.transfer == "HLG"
    gray = to_grey(VideoFile(path, path.name, facts).read(0), facts)
    assert np.abs(gray.astype(int) - 127).max() <= 2


def test_other_color_encodings_are_refused(tmp_path: Path) -> None:
    path = write_planes(tmp_path / "a.mkv", [np.array([500.0])] * 3, 16, 14)
    with pytest.raises(InputError, match=r"a\.mkv stores colors as ICtCp.*CAP-261"):
        probe(path, path.name)
