"""A calibrated rig as motion-capture software writes it down: cameras, lenses, sizes, before any picture is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError
from ...scene.cameras import Cameras
from ..undistort import Distortion

Array = NDArray[np.float64]
LARGEST = 4 << 20  # bytes: a calibration is a few kilobytes
NARROWEST, WIDEST = 0.02, 300.0  # metres between the two cameras farthest apart


@dataclass(frozen=True, eq=False)
class CalibratedCamera:
    """One camera with its lens. World units are metres, axes OpenCV's."""

    name: str
    size: tuple[int, int]  # (width, height) in pixels at which it was calibrated
    K: Array  # [3, 3]; (0, 0) is the outer corner of the top-left pixel
    distortion: Distortion
    world_to_camera: Array  # [4, 4] rigid
    residual: float | None = None  # what the calibration itself reports, in its own unit


def natural_key(name: str) -> list[Any]:
    """Sorts cam2 before cam10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def as_cameras(calibrated: list[CalibratedCamera]) -> Cameras:
    """The rig without its lenses (float64)."""
    return Cameras(
        torch.tensor(np.stack([c.world_to_camera for c in calibrated]), dtype=torch.float64),
        torch.tensor(np.stack([c.K for c in calibrated]), dtype=torch.float64),
        tuple(c.size for c in calibrated),
        tuple(c.name for c in calibrated),
    )


def read_text(path: Path) -> str:
    """The text of a small file. InputError where it is missing, too large or not text."""
    if not path.is_file():
        raise InputError(
            f"{path}: this calibration file does not exist; export it from the capture software again."
        )
    if path.stat().st_size > LARGEST:
        raise InputError(
            f"{path}: {path.stat().st_size} bytes are too many for a calibration file; is it another kind of file?"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a text file (byte {error.start}); export the calibration again."
        ) from error


def check_rig(path: Path, cameras: list[CalibratedCamera]) -> list[CalibratedCamera]:
    """The same cameras, or an InputError that names the camera and what is wrong with it."""
    if not cameras:
        raise InputError(
            f"{path}: it describes no camera that films; export the calibration with its video cameras."
        )
    seen: set[str] = set()
    for camera in cameras:
        where = f"{path}: camera '{camera.name}'"
        if camera.name in seen:
            raise InputError(f"{where} appears twice; give every camera its own name.")
        seen.add(camera.name)
        numbers = np.concatenate([camera.K.ravel(), camera.world_to_camera.ravel()])
        if not np.isfinite(numbers).all():
            raise InputError(f"{where} has a number that is not finite; calibrate it again.")
        width, height = camera.size
        if not (2 <= width <= 16384 and 2 <= height <= 16384):
            raise InputError(
                f"{where} has pictures of {width}x{height}; between 2 and 16384 pixels a side are read."
            )
        if camera.K[0, 0] <= 0 or camera.K[1, 1] <= 0:
            raise InputError(
                f"{where} has focal lengths {camera.K[0, 0]:g} and {camera.K[1, 1]:g} px; both must be above zero."
            )
        if not (-width < camera.K[0, 2] < 2 * width and -height < camera.K[1, 2] < 2 * height):
            raise InputError(
                f"{where} has its principal point at ({camera.K[0, 2]:.1f}, {camera.K[1, 2]:.1f}) px, far outside its "
                f"{width}x{height} picture; the units of the file are probably not those of its format."
            )
        rotation = camera.world_to_camera[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise InputError(
                f"{where} has a rotation that is not a rotation (stretched or mirrored); export it again."
            )
    centers = np.stack([-c.world_to_camera[:3, :3].T @ c.world_to_camera[:3, 3] for c in cameras])
    spread = float(np.linalg.norm(centers[:, None] - centers[None], axis=-1).max())
    if len(cameras) > 1 and spread > WIDEST:
        raise InputError(
            f"{path}: its cameras stand up to {spread:.0f} m apart; the positions look like millimetres where "
            "metres are expected, so choose units = mm."
        )
    if len(cameras) > 1 and spread < NARROWEST:
        raise InputError(
            f"{path}: its cameras stand at most {spread * 1000:.1f} mm apart; the positions look like metres where "
            "millimetres are expected, so choose units = m."
        )
    return sorted(cameras, key=lambda c: natural_key(c.name))
