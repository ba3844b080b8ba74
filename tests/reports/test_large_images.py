"""Images of many pixels in few bytes: refused, or decoded without a copy too many."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.readers import load_video
from engine.capture.undistort import Distortion
from engine.capture.view_images import Lens
from engine.files.images import read_image
from engine.io.image_files import load_depth_images, load_images
from engine.io.mask_folder import load_masks
from engine.io.view_folder import load_views, save_views
from engine.scene import ViewSet
from tests.engine import test_readers
from tests.memory import MEMORY, bounded, needs_linux
from tests.scenes import ring

pytestmark = needs_linux

# pixels of a side, and megabytes of one byte for each pixel
SIDE, PLANE = 5000, 24


def picture(path: Path, mode: str, colors: tuple[Any, Any], side: int = SIDE) -> Path:
    """An image of one color with a square of another, which takes a few kilobytes."""
    image = Image.new(mode, (side, side), colors[0])
    image.paste(colors[1], (0, 0, 999, 999))
    image.save(path)
    return path


@pytest.mark.parametrize(
    "mode, colors, planes",
    [("RGB", ((9, 9, 9), (0, 9, 0)), 4), ("RGBA", ((9, 9, 9, 9), (0,) * 4), 4), ("L", (255, 0), 1), ("P", (4, 1), 1)],
)  # fmt: skip
def test_large_images_are_decoded_once(
    mode: str, colors: tuple[Any, Any], planes: int, tmp_path: Path
) -> None:
    path = picture(tmp_path / "a.png", mode, colors)
    assert path.stat().st_size < 400_000
    channels = 4 if mode == "RGBA" else 3
    size = (SIDE, SIDE)
    # Pillow's own pixels, and the result
    bounded(lambda: read_image(path, "a.png", size), "value", (planes + 2 * channels) * PLANE + 60)
    # the result is of floating point
    bounded(lambda: load_images(path), "value", (4 * channels + channels + 1) * PLANE + 60)
    bounded(lambda: load_masks(tmp_path, None, True), "value", 10 * PLANE + 60)


def test_images_of_149_megapixels_are_not_decoded(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", "L", (0, 255), 12_200)
    for read in (
        load_images,
        lambda p: load_depth_images(p, 1.0),
        lambda p: load_masks(p.parent, None, True),
    ):
        bounded(lambda read=read: read(path), "FIL-007", 50)


def test_large_images_are_straightened_by_strips(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    picture(tmp_path / "images/000.png", "RGB", ((9, 9, 9), (0, 9, 0)), 6000)
    capture = test_readers.transforms(
        tmp_path,
        [test_readers.entry("images/000.png", 0.0, 0.0)],
        w=6000, h=6000, fl_x=6000.0, k1=-0.1, camera_model="OPENCV",
    )  # fmt: skip
    bounded(lambda: load_video(capture).source.read(0, 0), "value", MEMORY)


@pytest.mark.parametrize("lens", [("opencv", (-0.3, 0.1, 0.001, 0.002)), ("fisheye", (0.1, 0.01, 0.0, 0.0))])
def test_strips_straighten_as_the_whole_image(
    lens: tuple[str, tuple[float, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    image = np.kron(random.integers(0, 255, (30, 40, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    depth = image[..., 0].astype(np.float32)
    K, new_K = (
        np.array([[300.0, 0, 200], [0, 300, 150], [0, 0, 1]]),
        np.array([[250.0, 0, 190], [0, 240, 160], [0, 0, 1]]),
    )
    made = Lens(Distortion(*lens), tuple(K.ravel()), tuple(new_K.ravel()))
    whole, far = made.straighten(image), made.straighten_depth(depth)
    monkeypatch.setattr("engine.capture.view_images.LARGE", 0)
    monkeypatch.setattr("engine.capture.undistort.STRIP", 400 * 37)
    # positions are rounded otherwise, by a thousandth of a pixel
    assert np.abs(made.straighten(image).astype(int) - whole).max() <= 1
    assert np.array_equal(made.straighten_depth(depth), far)


def test_views_that_are_one_large_image_are_counted_first(tmp_path: Path) -> None:
    views = ViewSet(torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3), ring(1, size=(8, 8)), (0,), (0,), (0.0,))
    save_views(views, tmp_path)
    about = json.loads((tmp_path / "views.json").read_text())
    for part in ("originals", "edited"):
        picture(tmp_path / part / about["pictures"][0]["file"], "RGB", ((9, 9, 9), (0, 9, 0)))
    about["cameras"] = ring(5000, size=(SIDE, SIDE)).to_json()
    about["pictures"] *= 5000
    (tmp_path / "views.json").write_text(json.dumps(about))
    bounded(lambda: load_views(tmp_path), "IO-063", 100)
