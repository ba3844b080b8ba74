"""Interlaced videos are deinterlaced to the first field's time, whichever frame is asked for, and named."""

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from engine.capture import video_remarks
from engine.capture.readers import load_video
from engine.capture.single_video import load_clip
from engine.capture.video_file import VideoFile, probe
from engine.capture.video_pixels import to_pixels
from tests.engine.test_frames import write_video
from tests.video_files import write_interlaced


def combs(image: np.ndarray) -> float:
    """How far rows are from the mean of the rows above and below."""
    rows = image.astype(float)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


def test_captures_are_named_and_without_combs(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("11_interlaced", "cap_*"):
        video = load_video(folder)
        named = [w for w in video.warnings if "interlaced" in w]
        assert len(named) == 1, folder.name
        for view, name in enumerate(video.cameras.names):
            path = next((folder / "videos").glob(f"{name}.*"))
            with av.open(str(path)) as container:
                stored = [f.to_ndarray(format="rgb24") for f in islice(container.decode(video=0), 13)]
            if combs(stored[12]) < 1:
                # a progressive camera beside interlaced ones
                continue
            shown = video.source.read(view, 12).image.numpy()
            assert path.name in named[0]
            assert combs(shown) < 0.2 * combs(stored[12]), (folder.name, name)


@pytest.mark.parametrize("bottom_first", [False, True])
def test_frames_show_the_first_field_in_any_order(tmp_path: Path, bottom_first: bool) -> None:
    path = write_interlaced(tmp_path / "a.mp4", bottom_first)
    facts = probe(path, path.name)
    assert facts.is_interlaced and facts.frames == 40 and facts.fps == 30
    video = VideoFile(path, path.name, facts)
    inorder = [to_pixels(video.read(i), facts) for i in range(40)]
    for i, image in enumerate(inorder):
        bar = np.flatnonzero(image[24, :, 1] > 145)
        assert abs(bar[0] - 2 * i) <= 1 and abs(bar[-1] - (2 * i + 11)) <= 1, i
    order = list(range(40))
    random.Random(3).shuffle(order)
    for i in [39, 0, 8, 7, 16, *order]:
        assert np.array_equal(to_pixels(video.read(i), facts), inorder[i]), i


def test_without_a_filter_combs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.capture.video_file.deinterlacer", lambda: "")
    monkeypatch.setattr(video_remarks, "deinterlacer", lambda: "")
    clip = load_clip(write_interlaced(tmp_path / "a.mp4", False, frames=4))
    assert len(clip.notes) == 1 and "a.mp4" in clip.notes[0] and "look like combs" in clip.notes[0]


def test_progressive_video_is_left_alone(tmp_path: Path) -> None:
    assert not probe(write_video(tmp_path / "a.mp4", 5), "a.mp4").is_interlaced
