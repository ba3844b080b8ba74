"""Alpha of WebM videos comes out as masks, whichever frame is asked for."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.capture import video_alpha
from engine.capture.readers import load_video
from engine.capture.single_video import load_clip
from engine.capture.video_file import VideoFile, probe
from engine.capture.video_pixels import to_pixels
from tests.video_files import write_with_alpha


def test_captures_have_masks(reported: Callable[..., list[Path]]) -> None:
    """Every capture of the report has the same masks, however they are encoded."""
    first: dict[str, np.ndarray] = {}
    for folder in reported("10_webm_alpha", "cap_*"):
        video = load_video(folder)
        assert video.has_masks, folder.name
        for view, name in enumerate(video.cameras.names):
            for moment in (0, video.moments - 1):
                mask = video.source.read(view, moment).mask
                assert mask is not None
                inside = mask.numpy() > 127
                assert 0.01 < inside.mean() < 0.97, (folder.name, name, moment)
                expected = first.setdefault(f"{name} {moment}", inside)
                assert (inside == expected).mean() > 0.98, (folder.name, name, moment)


@pytest.mark.parametrize(
    ("codec", "knows_packets"), [("libvpx", True), ("libvpx-vp9", True), ("libvpx", False)]
)
def test_any_order_gives_the_alpha_of_the_frame(
    tmp_path: Path, codec: str, knows_packets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alpha has key frames of its own; older versions of PyAV do not tell where."""
    if not knows_packets:
        monkeypatch.setattr(video_alpha, "starts_alpha", lambda *_: False)
        monkeypatch.setattr("engine.capture.video_container.starts_alpha", lambda *_: False)
    path = write_with_alpha(tmp_path / "a.webm", codec)
    facts = probe(path, path.name)
    assert facts.has_alpha and facts.frames == 60
    video = VideoFile(path, path.name, facts)
    order = list(range(60))
    random.Random(3).shuffle(order)
    for index in [0, 59, 1, 58, 47, *order]:
        alpha = to_pixels(video.read(index), facts, alpha=True)[..., 3]
        assert abs(float((alpha > 127).mean()) * 64 - index) < 0.6, index


def test_alpha_without_a_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.capture.video_file.alpha_decoder", lambda _: "")
    clip = load_clip(write_with_alpha(tmp_path / "a.webm", "libvpx-vp9", frames=3))
    assert clip.frames.shape[-1] == 3
    assert len(clip.notes) == 1 and "alpha of a.webm is left out" in clip.notes[0]


def test_a_plain_webm_keeps_the_default_decoder(tmp_path: Path) -> None:
    from tests.engine.test_frames import write_video

    facts = probe(write_video(tmp_path / "a.webm", 5, "libvpx-vp9"), "a.webm")
    assert facts == replace(facts, has_alpha=False, alpha_decoder="", loses_alpha=False)
