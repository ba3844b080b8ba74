"""COLMAP's camera models put points where COLMAP itself does, and images are straightened by them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.capture.readers import load_video
from engine.capture.readers.colmap_values import MODELS, REFUSED, camera_of, check_model
from engine.capture.undistort import Distortion
from engine.errors import InputError
from tests.colmap_models import model

# Far from the axis: 0 to 80 degrees in several directions.
ANGLES = np.radians(np.linspace(0.0, 80.0, 33))
RAYS = np.stack(
    [np.stack([np.tan(ANGLES) * np.cos(a), np.tan(ANGLES) * np.sin(a)], axis=-1) for a in (0.0, 1.0, 3.0)]
).reshape(-1, 2)
LENSES = {
    "barrel division": Distortion("division", (-0.25,)),
    "pincushion division": Distortion("division", (0.007,)),
    "eucm": Distortion("eucm", (0.6, 1.1)),
    "eucm like a pinhole": Distortion("eucm", (0.0, 1.0)),
    "wide eucm": Distortion("eucm", (0.95, 0.7)),
    "equidistant": Distortion("fisheye"),
}


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_lenses_are_inverted(lens: Distortion) -> None:
    assert np.abs(lens.undistort(lens.distort(RAYS)) - RAYS).max() < 1e-6


def test_lenses_follow_their_published_formulas() -> None:
    """Division: ideal = seen / (1 + k r²). EUCM: x / (alpha √(beta r² + z²) + (1 - alpha) z)."""
    seen = LENSES["barrel division"].distort(RAYS)
    assert np.allclose(seen / (1 - 0.25 * (seen**2).sum(axis=1, keepdims=True)), RAYS, atol=1e-9)
    depth = 0.6 * np.sqrt(1.1 * (RAYS**2).sum(axis=1, keepdims=True) + 1) + 0.4
    assert np.allclose(LENSES["eucm"].distort(RAYS), RAYS / depth, atol=1e-12)


def test_what_a_division_lens_cannot_show_has_no_place() -> None:
    lens = Distortion("division", (0.5,))
    assert np.isnan(lens.distort(np.array([[0.8, 0.0]]))).all()
    assert np.isnan(lens.undistort(np.array([[1.6, 0.0]]))).all()


@pytest.mark.parametrize("kind", [17, "EQUIRECTANGULAR"])
def test_equirectangular_cameras_are_refused_with_the_reason(kind: int | str) -> None:
    with pytest.raises(InputError, match="all directions") as caught:
        check_model(kind, "cameras.bin: camera 1")
    assert caught.value.code == "CAP-203"


def test_a_capture_with_equirectangular_cameras_is_refused(tmp_path: Path) -> None:
    model(tmp_path, lambda f, c: f"cam{c}/{f}.png")
    file = tmp_path / "sparse/0/cameras.txt"
    file.write_text(file.read_text().replace("PINHOLE 32 24 40 40 16 12", "EQUIRECTANGULAR 32 24 32 24"))
    with pytest.raises(InputError, match="EQUIRECTANGULAR"):
        load_video(tmp_path)
    for suffix in ("cameras", "images"):
        (tmp_path / f"sparse/0/{suffix}.txt").unlink()
    (tmp_path / "sparse/0/cameras.bin").write_bytes(struct.pack("<QIiQQ2d", 1, 1, 17, 32, 24, 32.0, 24.0))
    (tmp_path / "sparse/0/images.bin").write_bytes(struct.pack("<Q", 0))
    with pytest.raises(InputError, match="EQUIRECTANGULAR"):
        load_video(tmp_path)


def test_points_are_where_pycolmap_puts_them(reported: Callable[..., list[Path]]) -> None:
    """Pixels of points, computed by pycolmap for each of its models."""
    (file,) = reported("15_lens_models", "lens.json")
    truth = json.loads(file.read_text())
    points = np.array(truth["pts"])
    compared = 0
    for name, given in truth["models"].items():
        if name in {refused for refused, _ in REFUSED.values()}:
            continue
        assert MODELS[given["id"]] == (name, len(given["params"]))
        camera = camera_of(name, (640, 480), tuple(given["params"]), name)
        ideal = camera.distortion.distort(points[:, :2] / points[:, 2:])
        pixels = ideal * [camera.K[0, 0], camera.K[1, 1]] + camera.K[:2, 2]
        known = np.isfinite(np.array(given["uv"], dtype=np.float64)).all(axis=1)
        assert np.abs(pixels - np.array(given["uv"], dtype=np.float64))[known].max() < 1e-9, name
        compared += 1
    assert compared >= 5


def test_reported_captures_are_straightened(reported: Callable[..., list[Path]]) -> None:
    for folder in reported("15_lens_models", "model_*"):
        if "EQUIRECTANGULAR" in folder.name:
            with pytest.raises(InputError, match="EQUIRECTANGULAR"):
                load_video(folder)
            continue
        video = load_video(folder)
        assert video.views == 4, folder.name
        assert float(video.source.read(0, 0).image.float().std()) > 1, folder.name
