"""Videos are shown as their display matrix says, mirrored ones too."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from engine.capture.readers import load_video
from engine.capture.single_video import load_clip
from engine.capture.video_file import SUFFIXES, probe
from engine.capture.video_orientation import display_matrix
from engine.errors import InputError
from tests.video_files import set_display_matrix

# what stands for a pixel (p, q): x = a·p + c·q, y = b·p + d·q
EIGHT = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


def quadrants(path: Path) -> np.ndarray:
    """Writes an .mp4 of four gray quadrants, wider than high, and returns its image [48, 64] as stored."""
    image = np.zeros((48, 64), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32], image[24:, 32:] = 40, 90, 150, 220
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return image


def as_shown(stored: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """An image [H, W, ...] moved pixel by pixel, as the standard defines the matrix."""
    q, p = np.mgrid[0 : stored.shape[0], 0 : stored.shape[1]]
    x, y = a * p + c * q, b * p + d * q
    shown = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1, *stored.shape[2:]), np.uint8)
    shown[y - y.min(), x - x.min()] = stored
    return shown


def test_single_videos_match_their_truth(reported: Callable[..., list[Path]]) -> None:
    for truth in reported("09_mirrored", "*.truth.png"):
        expected = np.asarray(Image.open(truth).convert("RGB")).astype(float) / 255
        name = truth.name.removesuffix(".truth.png")
        video = next(path for path in truth.parent.glob(f"{name}.*") if path.suffix in SUFFIXES)
        shown = load_clip(video).frames[0].numpy()
        assert shown.shape == expected.shape, video.name
        assert np.abs(shown - expected).mean() < 0.01, video.name


def test_views_of_captures_follow_their_matrices(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("09_mirrored", "cap_*"):
        video = load_video(folder)
        for view, name in enumerate(video.cameras.names):
            with av.open(str(next((folder / "videos").glob(f"{name}.*")))) as container:
                frame = next(container.decode(video=0))
            matrix = display_matrix(frame) or (1, 0, 0, 0, 1)
            signs = np.sign(np.array(matrix)[[0, 1, 3, 4]]).astype(int)
            expected = as_shown(frame.to_ndarray(format="rgb24"), *signs.tolist())
            shown = video.source.read(view, 0).image.numpy()
            assert np.abs(shown.astype(int) - expected).mean() < 2, (folder.name, name)


@pytest.mark.parametrize("axes", EIGHT, ids=str)
def test_all_eight_orientations(tmp_path: Path, axes: tuple[int, int, int, int]) -> None:
    stored = quadrants(tmp_path / "a.mp4")
    path = set_display_matrix(tmp_path / "a.mp4", axes)
    expected = as_shown(stored, *axes)
    shown = load_clip(path).frames[2].numpy()[..., 1] * 255
    assert shown.shape == expected.shape and probe(path, "a.mp4").size == expected.shape[::-1]
    inner = np.abs(np.gradient(expected.astype(float))).sum(0) == 0
    assert np.abs(shown - expected)[inner].max() < 6


def test_other_angles_are_refused_and_an_empty_matrix_is_none(tmp_path: Path) -> None:
    stored = quadrants(tmp_path / "a.mp4")
    s, c = math.sin(math.radians(30)), math.cos(math.radians(30))
    with pytest.raises(InputError, match=r"a\.mp4 .* 30°.*CAP-260"):
        probe(set_display_matrix(tmp_path / "a.mp4", (c, s, -s, c)), "a.mp4")
    shown = load_clip(set_display_matrix(tmp_path / "a.mp4", (0, 0, 0, 0))).frames[0].numpy()[..., 1] * 255
    assert abs(shown[10, 10] - stored[10, 10]) < 6
