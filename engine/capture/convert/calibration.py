"""A calibrated rig as motion-capture software writes it down: cameras, lenses, sizes, before any image is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError
from ...files.folders import natural_key
from ...files.images import check_size
from ...scene.cameras import Cameras
from ...scene.origins import origin_for
from ..camera_checks import check_intrinsics, rigid
from ..undistort import Distortion

Array = NDArray[np.float64]
# bytes: a calibration is a few kilobytes
LARGEST = 4 << 20
MOST_CAMERAS = 1000
# meters between the two cameras farthest apart
NARROWEST, WIDEST = 0.02, 300.0


@dataclass(frozen=True, eq=False)
class CalibratedCamera:
    """One camera with its lens. World units are meters, axes OpenCV's."""

    name: str
    size: tuple[int, int]  # (width, height) in pixels at which it was calibrated
    K: Array  # [3, 3]; (0, 0) is the outer corner of the top-left pixel
    distortion: Distortion
    world_to_camera: Array  # [4, 4] rigid
    residual: float | None = None  # what the calibration itself reports, in its own unit


def as_cameras(calibrated: list[CalibratedCamera]) -> Cameras:
    """The rig without its lenses (float64), around a local origin where float32 needs one."""
    cameras = Cameras(
        torch.tensor(np.stack([c.world_to_camera for c in calibrated]), dtype=torch.float64),
        torch.tensor(np.stack([c.K for c in calibrated]), dtype=torch.float64),
        tuple(c.size for c in calibrated),
        tuple(c.name for c in calibrated),
    )
    return cameras.with_origin(origin_for(cameras.centers))


def read_text(path: Path) -> str:
    """The text of a small file. InputError where it is missing, too large or not text."""
    if not path.is_file():
        raise InputError(
            "CAP-033",
            f"{path}: this calibration file does not exist. Export it from the capture software again.",
        )
    if path.stat().st_size > LARGEST:
        raise InputError(
            "CAP-034",
            f"{path}: {path.stat().st_size} bytes is too large for a calibration file. Check that it is "
            "the right file.",
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "CAP-035", f"{path} is not a text file (byte {error.start}). Export the calibration again."
        ) from error


def check_rig(path: Path, cameras: list[CalibratedCamera]) -> list[CalibratedCamera]:
    """The same cameras in natural order, or an InputError that names the camera and what is wrong with it."""
    if not cameras:
        raise InputError(
            "CAP-036",
            f"{path} does not describe any video camera. Export the calibration with its video cameras.",
        )
    # the distances of all pairs are looked at
    if len(cameras) > MOST_CAMERAS:
        raise InputError(
            "CAP-263",
            f"{path} describes {len(cameras):,} cameras; at most {MOST_CAMERAS:,} are supported. Check that it is the right "
            "file.",
        )
    counts = Counter(c.name for c in cameras)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise InputError(
            "CAP-037", f"{path}: camera '{twice}' appears twice. Give every camera a unique name."
        )
    cameras = [_checked(camera, f"{path}: camera '{camera.name}'") for camera in cameras]
    _check_spread(path, cameras)
    return sorted(cameras, key=lambda c: natural_key(c.name))


def _checked(camera: CalibratedCamera, where: str) -> CalibratedCamera:
    check_size(*camera.size, f"{where}: its image")
    # a lens is taken out by resampling, and skewed pixels with it
    check_intrinsics(camera.K, camera.size, where, may_skew=not camera.distortion.is_identity)
    return replace(camera, world_to_camera=rigid(camera.world_to_camera, where))


def _check_spread(path: Path, cameras: list[CalibratedCamera]) -> None:
    """InputError where the cameras stand so far apart or so close that the unit must be another."""
    centers = np.stack([-c.world_to_camera[:3, :3].T @ c.world_to_camera[:3, 3] for c in cameras])
    # one camera after the other: all pairs at once are gigabytes for a file of thousands
    spread = max(float(np.linalg.norm(centers - center, axis=-1).max()) for center in centers)
    if len(cameras) > 1 and spread > WIDEST:
        raise InputError(
            "CAP-038",
            f"{path}: the cameras are up to {spread:.0f} m apart. The positions appear to be in "
            "millimeters, not meters; set units = mm.",
        )
    if len(cameras) > 1 and spread < NARROWEST:
        raise InputError(
            "CAP-039",
            f"{path}: the cameras are at most {spread * 1000:.1f} mm apart. The positions appear to be in "
            "meters, not millimeters; set units = m.",
        )
