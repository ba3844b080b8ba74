"""Pose2Sim's Calib.toml (also written by Anipose, FreeMoCap and Caliscope) → calibrated cameras.

One table per camera: `size` [w, h], `matrix` 3×3 in pixels counted from the first pixel's center (OpenCV),
`distortions` k1 k2 p1 p2 (k3 …), `rotation` a Rodrigues vector and `translation` in meters, both world to camera in
OpenCV axes;
`fisheye = true` makes the distortions k1 … k4 of the fisheye model.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from ...errors import InputError
from ..undistort import Distortion
from .calibration import Array, CalibratedCamera, check_rig, read_text

NOT_CAMERAS = ("metadata", "capture_volume", "charuco", "checkerboard")


def read_pose2sim(path: Path, units: str = "auto") -> list[CalibratedCamera]:
    """The cameras of a Calib.toml in natural order of their names.

    `units`: "auto" and "m" read translations as meters, "mm" as millimeters. InputError names the file, the camera and
    the entry that cannot be used.
    """
    try:
        tables = tomllib.loads(read_text(path))
    # ValueError: a whole number of thousands of digits
    except (ValueError, RecursionError) as error:
        raise InputError(
            "CAP-060", f"{path} is not a TOML calibration ({error}). Write it with Pose2Sim again."
        ) from error
    scale = 0.001 if units == "mm" else 1.0
    cameras = [
        _camera(path, key, table, scale)
        for key, table in tables.items()
        if isinstance(table, dict) and key not in NOT_CAMERAS and "matrix" in table
    ]
    return check_rig(path, cameras)


def _camera(path: Path, key: str, table: dict[str, Any], scale: float) -> CalibratedCamera:
    name = str(table.get("name", key))

    def numbers(entry: str, shape: tuple[int, ...] | None) -> Array:
        try:
            value = np.array(table[entry], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "CAP-061", f"{path}: camera '{name}' has no usable '{entry}'. Calibrate it again."
            ) from error
        if shape is not None and value.shape != shape:
            raise InputError(
                "CAP-062",
                f"{path}: camera '{name}': '{entry}' has the shape {value.shape}, but {shape} is expected. "
                "Calibrate it again.",
            )
        return value

    size = numbers("size", (2,))
    if not np.isfinite(size).all():
        raise InputError(
            "CAP-063", f"{path}: camera '{name}' has the size {size.tolist()}. Calibrate it again."
        )
    K = numbers("matrix", (3, 3))
    # OpenCV counts from the first pixel's center
    K[:2, 2] += 0.5
    lens = numbers("distortions", None)
    if lens.ndim != 1:
        raise InputError(
            "CAP-064", f"{path}: camera '{name}': 'distortions' is not a list of numbers. Calibrate it again."
        )
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = scipy.spatial.transform.Rotation.from_rotvec(
        numbers("rotation", (3,))
    ).as_matrix()
    world_to_camera[:3, 3] = numbers("translation", (3,)) * scale
    return CalibratedCamera(
        name=name,
        size=(round(float(size[0])), round(float(size[1]))),
        K=K,
        distortion=Distortion("fisheye" if table.get("fisheye") else "opencv", tuple(float(k) for k in lens)),
        world_to_camera=world_to_camera,
    )
