"""Qualisys Track Manager calibration (.qca.txt, an XML file) → calibrated cameras.

What the numbers mean (found by projecting points of known position and by the straightness of checkerboards):
`transform` x y z is the camera's center in millimeters; the rows r11 r12 r13 / r21 … / r31 … are the camera's axes in
the world, with y up and z backwards (OpenGL's sense), so the last two rows change sign for OpenCV. Focal lengths and
center points are 1/64 pixel, counted from the center of the first pixel, before the `fov_video` crop is taken off.
The distortion coefficients are OpenCV's k1 k2 p1 p2 k3 as they stand, NOT 1/64ths (`docs/real_capture.md` measures
both readings). The world is right-handed with z up.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..undistort import Distortion
from .calibration import CalibratedCamera, check_rig, read_text

SUBPIXELS = 64.0


def read_qualisys(path: Path, units: str = "auto") -> list[CalibratedCamera]:
    """The cameras of a .qca.txt file that film (marker cameras are left out), in natural order of their serials.

    `units`: "auto" and "mm" read positions as the millimeters Qualisys writes, "m" as meters. InputError names the
    file, the camera and the element that cannot be used.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(
            "CAP-065",
            f"{path} declares XML entities, which a Qualisys calibration does not contain. Export the "
            "calibration again.",
        )
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(
            "CAP-066",
            f"{path} is not a complete Qualisys calibration ({error}). Export the .qca.txt file again.",
        ) from error
    if root.tag != "calibration":
        raise InputError(
            "CAP-067",
            f"{path} has the root element <{root.tag}>, but a Qualisys calibration has <calibration>. "
            "Choose the .qca.txt file.",
        )
    elements = root.findall("cameras/camera")
    filming = [
        e for e in elements if any(word in e.get("model", "none").lower() for word in ("video", "none"))
    ]
    scale = 1.0 if units == "m" else 0.001
    return check_rig(path, [_camera(path, e, scale) for e in filming or elements])


def _camera(path: Path, element: ET.Element, scale: float) -> CalibratedCamera:
    name = element.get("serial", "")
    if not name:
        raise InputError(
            "CAP-068",
            f"{path}: a <camera> has no serial, which is needed to find its video. Export the calibration "
            "again.",
        )

    def number(tag: str, key: str, default: float | None = None) -> float:
        found = element.find(tag)
        value = None if found is None else found.get(key)
        if value is None and default is not None:
            return default
        try:
            if value is None:
                raise ValueError("missing")
            return float(value)
        except ValueError as error:
            raise InputError(
                "CAP-069",
                f"{path}: camera '{name}' has no usable number {key} in <{tag}> ({value}). Export the "
                "calibration again.",
            ) from error

    fov = "fov_video"
    left, top = number(fov, "left"), number(fov, "top")
    width, height = number(fov, "right") - left + 1, number(fov, "bottom") - top + 1
    if not (np.isfinite([width, height]).all() and width == int(width) and height == int(height)):
        raise InputError(
            "CAP-070",
            f"{path}: camera '{name}' has an image of {width} x {height} px in <{fov}>. Export the "
            "calibration again.",
        )
    K = np.array(
        [
            [
                number("intrinsic", "focalLengthU"),
                number("intrinsic", "skew", 0.0),
                number("intrinsic", "centerPointU"),
            ],
            [0.0, number("intrinsic", "focalLengthV"), number("intrinsic", "centerPointV")],
            [0.0, 0.0, SUBPIXELS],
        ]
    )
    K /= SUBPIXELS  # pyright: ignore[reportConstantRedefinition]
    # from the first pixel's center to its corner, minus the crop
    K[:2, 2] += 0.5 - np.array([left, top])
    lens = tuple(
        number("intrinsic", key, 0.0)
        for key in (
            "radialDistortion1",
            "radialDistortion2",
            "tangentalDistortion1",
            "tangentalDistortion2",
            "radialDistortion3",
        )
    )
    axes = np.array([[number("transform", f"r{i}{j}") for j in (1, 2, 3)] for i in (1, 2, 3)])
    center = np.array([number("transform", axis) for axis in "xyz"]) * scale
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ axes
    world_to_camera[:3, 3] = -world_to_camera[:3, :3] @ center
    return CalibratedCamera(
        name=name,
        size=(int(width), int(height)),
        K=K,
        distortion=Distortion("opencv", lens),
        world_to_camera=world_to_camera,
        residual=_residual(element),
    )


def _residual(element: ET.Element) -> float | None:
    try:
        return float(element.get("avg-residual", ""))
    except ValueError:
        return None
