"""Lens models: inverse of themselves, and pictures that come out as the pinhole camera would have taken them."""

import numpy as np
import pytest

from engine.capture.undistort import Distortion, pinhole_inside, remap, undistortion_map
from engine.errors import InputError

LENSES = [
    Distortion("opencv", (-0.28, 0.09, 0.001, -0.0007)),
    Distortion("opencv", (0.12, -0.03, 0.0005, 0.0004, 0.01)),
    Distortion("opencv", (0.2, 0.05, 0.001, 0.001, 0.01, 0.35, 0.05, 0.01)),
    Distortion("opencv", (-0.2, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02, 0.0, -0.01, 0.0)),
    Distortion("fisheye", (0.02, -0.005, 0.001, 0.0)),
    Distortion("fisheye", ()),
    Distortion("fov", (0.8,)),
    Distortion("thin_prism_fisheye", (0.02, -0.004, 0.0008, -0.0006, 0.001, 0.0, 0.001, -0.0007)),
    Distortion(
        "rad_tan_thin_prism_fisheye",
        (0.03, -0.01, 0.002, 0.0, 0.0, 0.0, 0.0006, -0.0004, 0.0005, 0.0, -0.0003, 0.0),
    ),
]
K = np.array([[210.0, 0.0, 128.0], [0.0, 205.0, 90.0], [0.0, 0.0, 1.0]])
SIZE = (250, 187)


@pytest.mark.parametrize("lens", LENSES, ids=lambda d: f"{d.model}{len(d.params)}")
def test_undistorting_distorted_points_gives_them_back(lens: Distortion) -> None:
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 25), np.linspace(-0.45, 0.45, 19))
    ideal = np.stack([x, y], axis=-1)
    assert np.abs(lens.distort(ideal) - ideal).max() > 1e-3, "the lens must bend something"
    assert np.abs(lens.undistort(lens.distort(ideal)) - ideal).max() < 1e-7


def test_opencv_points_match_the_published_formula() -> None:
    """By hand for (0.3, -0.2): radial 1 + k1 r² + k2 r⁴ + k3 r⁶ with r² = 0.13."""
    k1, k2, p1, p2, k3 = -0.3, 0.1, 0.01, -0.02, 0.05
    r2 = 0.13
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    x = 0.3 * radial + 2 * p1 * 0.3 * -0.2 + p2 * (r2 + 2 * 0.09)
    y = -0.2 * radial + p1 * (r2 + 2 * 0.04) + 2 * p2 * 0.3 * -0.2
    got = Distortion("opencv", (k1, k2, p1, p2, k3)).distort(np.array([0.3, -0.2]))
    assert np.allclose(got, [x, y], atol=1e-14)


def test_a_fisheye_measures_the_angle() -> None:
    angle = np.radians(50.0)
    got = Distortion("fisheye").distort(np.array([np.tan(angle), 0.0]))
    assert np.allclose(got, [angle, 0.0], atol=1e-12)


def pattern(pixels: np.ndarray) -> np.ndarray:
    """A smooth picture as a function of where a ray goes: [..., 2] ideal points → [..., 3] in 0..255."""
    x, y = pixels[..., 0], pixels[..., 1]
    return np.stack([np.sin(9 * x + 1), np.cos(7 * y), np.sin(6 * (x + y))], axis=-1) * 100 + 128


def normalised(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return np.stack([(x - matrix[0, 2]) / matrix[0, 0], (y - matrix[1, 2]) / matrix[1, 1]], axis=-1)


@pytest.mark.parametrize("lens", LENSES, ids=lambda d: f"{d.model}{len(d.params)}")
def test_an_undistorted_picture_is_the_pinhole_cameras_picture(lens: Distortion) -> None:
    """A scene painted through the lens, undistorted, equals the same scene painted without a lens."""
    seen = lens.undistort(normalised(K, SIZE))
    photograph = np.nan_to_num(pattern(seen), nan=0.0).round().astype(np.uint8)
    new_K = pinhole_inside(K, SIZE, lens)
    straight = remap(photograph, undistortion_map(K, lens, new_K, SIZE))
    truth = pattern(normalised(new_K, SIZE))
    difference = np.abs(straight.astype(float) - truth)
    assert straight.shape == photograph.shape
    assert difference.mean() < 0.6 and difference.max() < 4.0
    wrong = np.abs(photograph.astype(float) - truth)
    assert wrong.mean() > 2.0, "without undistortion the pictures differ"


def test_no_pixel_of_the_new_picture_comes_from_outside() -> None:
    for lens in LENSES:
        source = undistortion_map(K, lens, pinhole_inside(K, SIZE, lens), SIZE)
        assert source[..., 0].min() > -0.01 and source[..., 0].max() < SIZE[0] + 0.01
        assert source[..., 1].min() > -0.01 and source[..., 1].max() < SIZE[1] + 0.01


def test_a_map_of_nothing_gives_the_same_bytes() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 44, 3), dtype=np.uint8)
    source = undistortion_map(K, Distortion(), K, (44, 31))
    assert (remap(picture, source) == picture).all()
    assert (remap(picture[..., 0], source) == picture[..., 0]).all()


@pytest.mark.parametrize("params", [(float("nan"),), (1.0,) * 13])
def test_impossible_parameters_are_refused(params: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        Distortion("opencv", params)


def test_a_lens_that_leaves_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="calibration"):
        pinhole_inside(
            np.array([[1e9, 0, -1e6], [0, 1e9, 90.0], [0, 0, 1.0]]), SIZE, Distortion("opencv", (0.1,))
        )
