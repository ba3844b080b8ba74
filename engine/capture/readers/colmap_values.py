"""COLMAP's cameras and poses as values: its camera models, K and lens from their parameters, poses from quaternions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.paths import printable
from ..undistort import Distortion

Array = NDArray[Any]

# id: (name, how many parameters). Lens parameters follow the focal lengths and the principal point.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
}
# What COLMAP has and a pinhole image cannot show: the number, the name and why.
REFUSED = {
    17: (
        "EQUIRECTANGULAR",
        "it shows all directions, which no pinhole image can; export perspective images (cubemap faces)",
    )
}
ONE_FOCAL = (
    "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_DIVISION", "SIMPLE_FISHEYE",
)  # fmt: skip
LENSES = {
    "SIMPLE_RADIAL": "opencv", "RADIAL": "opencv", "OPENCV": "opencv", "FULL_OPENCV": "opencv",
    "OPENCV_FISHEYE": "fisheye", "SIMPLE_RADIAL_FISHEYE": "fisheye", "RADIAL_FISHEYE": "fisheye",
    "FOV": "fov", "THIN_PRISM_FISHEYE": "thin_prism_fisheye",
    "RAD_TAN_THIN_PRISM_FISHEYE": "rad_tan_thin_prism_fisheye",
    "SIMPLE_DIVISION": "division", "DIVISION": "division", "SIMPLE_FISHEYE": "fisheye", "FISHEYE": "fisheye", "EUCM": "eucm",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    where: str
    size: tuple[int, int]
    K: Array  # [3, 3]
    distortion: Distortion


@dataclass(frozen=True, eq=False)
class ColmapImage:
    name: str  # as COLMAP stores it: a path below the image folder
    where: str
    camera_id: int
    world_to_camera: Array  # [4, 4]
    key: int  # the number by which frames.bin names it


def centers_of(poses: Array) -> Array:
    """Camera positions [N, 3] of world_to_camera [N, 4, 4]."""
    return -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])


def check_model(model: int | str, where: str) -> None:
    """InputError for a camera model, by number or name, that is not read."""
    refused = next((r for number, r in REFUSED.items() if model in (number, r[0])), None)
    if refused is not None:
        raise InputError("CAP-203", f"{where} has the camera model {refused[0]}: {refused[1]}.")
    names = [name for name, _ in MODELS.values()]
    if isinstance(model, int) and model not in MODELS:
        raise InputError(
            "CAP-092",
            f"{where} has the unknown camera model {model}. Supported models are {', '.join(names)}.",
        )
    if isinstance(model, str) and model not in names:
        raise InputError(
            "CAP-094",
            f"{where} has the unknown camera model {printable(model)[:40]}. Supported models are {', '.join(names)}.",
        )


def camera_of(model: str, size: tuple[int, int], params: tuple[float, ...], where: str) -> ColmapCamera:
    """K and lens from COLMAP's parameter list."""
    if not np.isfinite(params).all():
        raise InputError("CAP-085", f"{where}: a parameter is NaN or infinite. Export the model again.")
    if model in ONE_FOCAL:
        fx, fy, cx, cy, rest = params[0], params[0], params[1], params[2], params[3:]
    else:
        fx, fy, cx, cy, rest = *params[:4], params[4:]
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return ColmapCamera(
        where, size, K, Distortion(LENSES[model], tuple(rest)) if model in LENSES else Distortion()
    )


def pose_of(quaternion: tuple[float, ...], translation: tuple[float, ...], where: str) -> Array:
    """world_to_camera [4, 4] from a quaternion wxyz (normalized here) and a translation."""
    q = np.array(quaternion, dtype=np.float64)
    if not (np.isfinite(q).all() and np.isfinite(translation).all()):
        raise InputError(
            "CAP-086", f"{where}: the pose contains NaN or infinite values. Export the model again."
        )
    length = np.linalg.norm(q)
    if not 0.5 < length < 2:
        raise InputError(
            "CAP-087",
            f"{where}: the rotation quaternion has length {length:.3g}, but 1 is expected. Export the "
            "model again.",
        )
    w, x, y, z = q / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = translation
    return pose
