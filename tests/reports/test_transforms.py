"""Captures of phone scanners: names of single images become file names, and foreign image formats are named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.capture.options import LoadOptions
from engine.capture.readers import load_video
from engine.cli import main
from engine.files.paths import LONGEST_STEM, file_stems


def test_reported_captures_are_converted(reported: Callable[..., list[Path]], tmp_path: Path) -> None:
    for source in reported("18_transforms"):
        video = load_video(source)
        if not bool(video.available.all()):
            continue
        out = tmp_path / source.name
        assert main(["import", "--source", str(source), "--out", str(out)]) == 0
        made = load_video(out)
        assert made.cameras.names == video.cameras.names
        assert made.cameras.world_to_camera.allclose(video.cameras.world_to_camera)
        small = load_video(source, LoadOptions(scale=made.cameras.sizes[0][1] / video.cameras.sizes[0][1]))
        for view, moment in made.samples():
            found, wanted = (each.source.read(view, moment).image.float() for each in (made, small))
            difference = found - wanted[: found.shape[0], : found.shape[1]]
            assert float(difference.abs().mean()) < 4, (source.name, view)


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["cam00", "Kamera ü", "a.b"], ["cam00", "Kamera ü", "a.b"]),
        (["images/frame_1", "images_frame_1"], ["images_frame_1", "images_frame_1_2"]),
        (["../x", "..", "", "/etc/passwd"], ["_x", "_", "__2", "_etc_passwd"]),
        (["A", "a", "a_2"], ["A", "a_2", "a_2_2"]),
        (["nul", "COM1.left", "c:d", "e?\n", "dot."], ["nul_", "COM1.left_", "c_d", "e__", "dot"]),
        (["caf\udce9"], ["caf_"]),
    ],
)
def test_any_names_become_different_file_names(names: list[str], stems: list[str]) -> None:
    assert file_stems(names) == stems


def test_long_names_become_file_names(tmp_path: Path) -> None:
    stems = file_stems(["ü" * 5000, "ü" * 5001])
    assert len(set(stems)) == 2
    for stem in stems:
        assert len(stem.encode()) <= LONGEST_STEM + 2
        (tmp_path / f"{stem}.mp4").touch()
