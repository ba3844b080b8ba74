"""A file that disappears while a capture is used is called missing, not damaged."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.capture.frames import FrameStore
from engine.capture.video_container import guarded
from engine.capture.video_file import Handles, VideoFile, probe
from engine.capture.view_images import ImageFile, ImageView, VideoView
from engine.errors import InputError
from engine.files.mp4 import write_mp4
from engine.io.image_files import save_images


def test_a_video_that_vanishes_between_two_frames(tmp_path: Path) -> None:
    path = write_mp4([torch.full((32, 32, 3), i / 8) for i in range(8)], 8, tmp_path / "cam01.mp4")
    video = VideoFile(path, path.name, probe(path, path.name), Handles())
    store = FrameStore([VideoView(video, dict(enumerate(range(8))), (32, 32))], 0)
    assert np.asarray(store.read(0, 5).image).shape == (32, 32, 3)
    path.unlink()
    video.close()
    with pytest.raises(InputError, match=r"cam01\.mp4 was removed") as caught:
        store.read(0, 2)
    assert "damaged" not in str(caught.value) and caught.value.code == "CAP-198"


def test_an_image_that_vanishes(tmp_path: Path) -> None:
    folder = save_images(torch.rand(1, 8, 8, 3), tmp_path / "cam01")
    file = next(folder.iterdir())
    store = FrameStore([ImageView({0: ImageFile(file, file.name)}, (8, 8))], 16)
    file.unlink()
    with pytest.raises(InputError, match=r"00000\.png is missing"):
        store.read(0, 0)


def test_a_video_that_vanishes_while_it_is_decoded(tmp_path: Path) -> None:
    path = write_mp4([torch.full((32, 32, 3), i / 8) for i in range(8)], 8, tmp_path / "cam01.mp4")

    def frames() -> Iterator[object]:
        yield "frame"
        path.unlink()
        raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match=r"cam01\.mp4 was removed"):
        list(guarded(frames(), path, path.name))
