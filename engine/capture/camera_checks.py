"""Cameras from files, checked: finite, rigid, right-handed, with focal lengths and bounds that make sense."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.paths import printable

Array = NDArray[Any]
# One set of tolerances for every reader and calibration.
# Files round poses to as few as three digits, which leaves a rotation this far from orthonormal; a scale or shear that
# matters is larger.
MAX_ROTATION_ERROR = 1e-2
# Below this a rotation is orthonormal to float64 rounding of printed digits and stays as it is written.
EXACT_ROTATION_ERROR = 1e-7
# Of the longer side of the images: from beyond a fisheye to beyond the longest telephoto lens; millimeters written
# as pixels fall outside.
FOCAL_LENGTHS = (0.02, 1000.0)
# Of the focal length; calibration noise lies below, and rendering knows no skew.
MAX_SKEW = 1e-3
# World units; what is farther away is damaged. Float64 still resolves a ten-millionth there.
MAX_DISTANCE = 1e9


def matrix(value: object, shape: tuple[int, ...], what: str, where: str) -> Array:
    """`value` (nested lists) as float64 of `shape`; InputError naming `what` and `where` otherwise. NaN passes."""
    try:
        made = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "CAP-012", f"{where}: {what} is not an array of numbers. Export the cameras again."
        ) from error
    if made.shape != shape:
        wanted = " × ".join(str(n) for n in shape)
        found = " × ".join(str(n) for n in made.shape) or "a single number"
        raise InputError(
            "CAP-013", f"{where}: {what} is {found}, but {wanted} is expected. Export the cameras again."
        )
    return made


def number(
    data: dict[str, Any], key: str, where: str, default: float | None = None, positive: bool = False
) -> float:
    """data[key] as a finite float; InputError naming `key` and `where` otherwise."""
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = "missing" if value is None else printable(repr(value))[:40]
        raise InputError("CAP-014", f"{where}: {key} is {found}. It must be a number.")
    if isinstance(value, int) and abs(value) > 2**53:
        raise InputError(
            "CAP-015", f"{where}: {key} has {len(str(value))} digits, which is too large. Correct the value."
        )
    if not np.isfinite(value):
        raise InputError("CAP-016", f"{where}: {key} is NaN or infinite. Export the cameras again.")
    if positive and value <= 0:
        raise InputError("CAP-017", f"{where}: {key} is {value}. It must be greater than 0.")
    return float(value)


def integer(data: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    """data[key] as a whole number above 0."""
    value = number(data, key, where, default, positive=True)
    if value != int(value):
        raise InputError("CAP-018", f"{where}: {key} is {value}. It must be an integer.")
    return int(value)


def rigid(world_to_camera: Array, where: str) -> Array:
    """[4, 4] with an exactly orthonormal rotation. InputError: NaN, scaled, sheared or mirrored poses."""
    return orthonormal(checked_pose(world_to_camera, where))


def checked_pose(world_to_camera: Array, where: str) -> Array:
    """The pose [4, 4] as float64, as it is. InputError: NaN, scaled, sheared or mirrored poses."""
    pose = np.asarray(world_to_camera, dtype=np.float64)
    if not np.isfinite(pose).all():
        raise InputError(
            "CAP-019", f"{where}: the pose contains NaN or infinite values. Export the cameras again."
        )
    rotation = pose[:3, :3]
    if np.abs(pose).max() > 1e12:
        raise InputError(
            "CAP-020", f"{where}: the pose contains values above 10¹². Export the cameras again."
        )
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if np.linalg.det(rotation) < 0 and error < 0.1:
        raise InputError(
            "CAP-021",
            f"{where}: the rotation is mirrored (its determinant is -1). Check which camera axes the "
            "export uses.",
        )
    if error > MAX_ROTATION_ERROR:
        raise InputError(
            "CAP-022",
            f"{where}: the rotation is scaled or sheared (error {error:.2g}). Export the cameras again "
            "with orthonormal axes.",
        )
    if np.abs(pose[:3, 3]).max() > MAX_DISTANCE:
        raise InputError(
            "CAP-023", f"{where}: the camera is more than 10⁹ units from the origin. Export it again."
        )
    return pose


def orthonormal(pose: Array) -> Array:
    """A checked pose [4, 4] without the rounding of its file; what is orthonormal already stays as it is written."""
    rotation = pose[:3, :3]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    u, _, vt = np.linalg.svd(rotation)
    result = np.eye(4)
    result[:3, :3] = rotation if error < EXACT_ROTATION_ERROR else u @ vt
    result[:3, 3] = pose[:3, 3]
    return result


def inverted(matrix: Array) -> Array:
    """The inverse of a pose [4, 4] whose rotation may be any matrix: `rigid` is asked later, so nothing is hidden.

    The rotation is transposed, not inverted: a scaled one stays scaled, and NaN stays NaN.
    """
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3].T
    # NaN and huge numbers go on to where they are named
    with np.errstate(invalid="ignore", over="ignore"):
        result[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return result


def check_intrinsics(K: Array, size: tuple[int, int], where: str, may_skew: bool = False) -> None:
    """InputError: K with NaN, a focal length that is not above 0 or absurd, a principal point far off the image.

    `may_skew`: the images are resampled to pixels without skew before anything is rendered.
    """
    _check_focal_lengths(K, size, where)
    width, height = size
    if abs(K[1, 0]) + abs(K[2, 0]) + abs(K[2, 1]) > 1e-9 or abs(K[2, 2] - 1) > 1e-9:
        raise InputError(
            "CAP-024",
            f"{where}: K must have the rows (fx, skew, cx), (0, fy, cy), (0, 0, 1). Export the cameras "
            "again.",
        )
    if not may_skew and abs(K[0, 1]) > MAX_SKEW * K[0, 0]:
        raise InputError(
            "CAP-025",
            f"{where}: K has a skew of {K[0, 1]:.4g}. Skewed pixels are not supported; calibrate without "
            "skew.",
        )
    if not (-width < K[0, 2] < 2 * width and -height < K[1, 2] < 2 * height):
        raise InputError(
            "CAP-026",
            f"{where}: the principal point ({K[0, 2]:.5g}, {K[1, 2]:.5g}) is far outside the image of "
            f"{width} × {height} pixels. Correct cx and cy.",
        )


def _check_focal_lengths(K: Array, size: tuple[int, int], where: str) -> None:
    if not np.isfinite(K).all():
        raise InputError("CAP-027", f"{where}: K contains NaN or infinite values. Calibrate or export again.")
    width, height = size
    if width < 1 or height < 1:
        raise InputError(
            "CAP-028",
            f"{where}: the image size is {width} × {height} pixels. Width and height must be at least 1.",
        )
    for axis, value in (("x", K[0, 0]), ("y", K[1, 1])):
        if value <= 0:
            raise InputError(
                "CAP-029", f"{where}: the focal length in {axis} is {value:.6g}. It must be greater than 0."
            )
        if not FOCAL_LENGTHS[0] < value / max(size) < FOCAL_LENGTHS[1]:
            raise InputError(
                "CAP-030",
                f"{where}: a focal length of {value:.6g} pixels does not fit images of {width} × {height} "
                "pixels. Check that it is not in millimeters.",
            )


def check_near_far(near: float | None, far: float | None, where: str) -> None:
    """InputError where bounds are given that hold nothing between them."""
    if near is None or far is None:
        return
    if not (np.isfinite(near) and np.isfinite(far)):
        raise InputError("CAP-031", f"{where}: near or far is NaN or infinite. Export the bounds again.")
    if near <= 0 or near >= far:
        raise InputError(
            "CAP-032",
            f"{where}: near is {near:.6g} and far is {far:.6g}, but near must be greater than 0 and less "
            "than far. Check that they are not swapped.",
        )
