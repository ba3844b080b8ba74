"""Technicolor light-field videos (Sabater et al., CVPR Workshops 2017): `<scene>_<frame>_<camera>.png`, one folder.

`cameras_parameters.txt` has a heading and a line per camera: f, cu, cv (pixels), ar (fy / fx), sk (skew), in the original
videos also d1 and d2 (radial distortion), then world to camera: qw qx qy qz, tx ty tz (OpenCV axes). The rig has 4 × 4
cameras at 30 fps, and its camera 10 (row 2, column 2) is the convention's test view.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...files.folders import visible
from ...files.images import SUFFIXES, image_size
from ...files.paths import open_regular, printable, relative_name, require_file
from ..description import Capture, View
from ..options import LoadOptions
from ..timing import USUAL_FPS
from ..undistort import Distortion
from ..view_images import ImageFile
from .colmap_values import pose_of
from .listing import image_files, moments_of

CALIBRATION = "cameras_parameters.txt"
# numbers in a line: of undistorted videos, and of the original ones with their lens
PLAIN, WITH_LENS = 12, 14
# bytes; 16 cameras take 3,000
LARGEST = 2**20
RIG, TEST_CAMERA = 16, 10

_NAME = re.compile(r"(.*?)_?(\d{1,12})_(\d{1,4})")


def recognizes(folder: Path) -> bool:
    return (folder / CALIBRATION).exists()


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`. InputError naming the line or image at fault."""
    rows = read_calibration(folder)
    files = _files(folder)
    warnings: list[str] = []
    row_of = _matched(sorted(files), len(rows), warnings)
    if any(np.any(row[5:7]) for row in rows if len(row) == WITH_LENS):
        warnings.append(
            f"{CALIBRATION} states lens distortion (d1, d2) without its formula; it is read as OpenCV's k1 and k2. "
            "Check that straight edges come out straight, or use the undistorted videos."
        )
    moments = moments_of(files.values())
    views = [_view(folder, c, files[c], moments, rows[row_of[c]]) for c in sorted(files)]
    held_out = [_label(TEST_CAMERA)] if len(rows) == RIG and len(views) > 1 and TEST_CAMERA in files else []
    return Capture(
        folder=folder,
        layout="technicolor",
        views=views,
        fps=USUAL_FPS,
        test_views=held_out,
        warnings=warnings,
        files=[folder / CALIBRATION],
    )


def read_calibration(folder: Path) -> list[tuple[float, ...]]:
    """The lines of cameras_parameters.txt, each 12 or 14 numbers. InputError naming the line that is not."""
    path = require_file(folder / CALIBRATION, folder, "it contains the cameras of a Technicolor light field")
    try:
        with open_regular(path) as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(
            "CAP-190",
            f"{CALIBRATION} cannot be read: {error.strerror}. Check the file and its permissions.",
        ) from error
    if len(raw) > LARGEST:
        raise InputError(
            "CAP-194", f"{CALIBRATION} has more than {LARGEST:,} bytes. Check that it is the right file."
        )
    rows: list[tuple[float, ...]] = []
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), start=1):
        words = line.split()
        try:
            row = tuple(float(word) for word in words)
        except ValueError as error:
            # the heading names the columns
            if number == 1 or line.startswith("#"):
                continue
            raise InputError(
                "CAP-195",
                f"{CALIBRATION}: line {number} contains '{printable(line)[:40]}', but numbers are expected. "
                "Download the file again.",
            ) from error
        if row and len(row) not in (PLAIN, WITH_LENS):
            raise InputError(
                "CAP-196",
                f"{CALIBRATION}: line {number} has {len(row)} numbers, but {PLAIN} or {WITH_LENS} are expected (f, cu, "
                "cv, ar, sk, d1 and d2 if distorted, quaternion, translation). Download the file again.",
            )
        if row:
            rows.append(row)
    if not rows:
        raise InputError("CAP-197", f"{CALIBRATION} lists no cameras. Download the file again.")
    return rows


def _files(folder: Path) -> dict[int, dict[int, Path]]:
    """Camera number → frame number → image, of the folder or of its folder `images`."""
    found: dict[int, dict[int, Path]] = {}
    for place in (folder, folder / "images"):
        for file in visible(place):
            match = _NAME.fullmatch(file.stem) if file.suffix.lower() in SUFFIXES else None
            if match is None:
                continue
            frames = found.setdefault(int(match[3]), {})
            if (other := frames.setdefault(int(match[2]), file)) != file:
                raise InputError(
                    "CAP-191",
                    f"{relative_name(other, folder)} and {relative_name(file, folder)} are the same frame of the same "
                    "camera. Keep the original or the undistorted images, the ones that belong to "
                    f"{CALIBRATION}.",
                )
            require_file(file, folder, "download it again")
        if found:
            return found
    raise InputError(
        "CAP-192",
        f"{printable(folder.name)} contains {CALIBRATION} but no images named <scene>_<frame>_<camera>.png. Put "
        "them into the same folder.",
    )


def _matched(cameras: list[int], count: int, warnings: list[str]) -> dict[int, int]:
    """Camera number → line of the calibration, which counts from 0; InputError where lines are missing."""
    if cameras[-1] < count:
        absent = [_label(i) for i in range(count) if i not in cameras]
        if absent:
            warnings.append(
                f"{CALIBRATION} lists {count} cameras, but {len(absent)} have no images ({', '.join(absent[:16])}). "
                "They are not used."
            )
        return {camera: camera for camera in cameras}
    if len(cameras) == count:
        warnings.append(
            f"Camera numbers run from {cameras[0]} to {cameras[-1]}, not from 0; they belong to the {count} lines of "
            f"{CALIBRATION} in ascending order."
        )
        return {camera: line for line, camera in enumerate(cameras)}
    raise InputError(
        "CAP-193",
        f"{CALIBRATION} lists {count} cameras, but there are images of camera {cameras[-1]} (numbers start at 0). Use the "
        "calibration that belongs to these images.",
    )


def _label(camera: int) -> str:
    return f"cam{camera:02d}"


def _view(
    folder: Path, camera: int, files: dict[int, Path], moments: dict[int, int], row: tuple[float, ...]
) -> View:
    where = f"{CALIBRATION}: camera {camera}"
    f, cu, cv, aspect, skew = row[:5]
    images: dict[int, ImageFile] = image_files(files, folder, moments)
    first = images[min(images)]
    return View(
        name=_label(camera),
        where=where,
        K=np.array([[f, skew, cu], [0, f * aspect, cv], [0, 0, 1.0]]),
        world_to_camera=pose_of(row[-7:-3], row[-3:], where),
        size=image_size(first.path, first.name),
        images=images,
        distortion=_lens(row, where),
    )


def _lens(row: tuple[float, ...], where: str) -> Distortion:
    if len(row) != WITH_LENS:
        return Distortion()
    try:
        return Distortion("opencv", row[5:7])
    except InputError as error:
        raise error.at(where) from error
