"""DyNeRF / Neural 3D Video (Li et al. 2022): `camNN.mp4` (or frames) and LLFF's `poses_bounds.npy` [cameras, 17].

A row is a 3 × 5 matrix (camera axes down, right, backwards | position | height, width, focal) and near, far. The first
camera by name is the convention's test view. The height, width and focal of a row are scaled to the videos' real size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import InputError
from ...files.folders import visible
from ...files.images import image_size
from ...files.npyfile import read_numbers
from ...files.paths import printable, relative_name, require_file
from ..camera_checks import inverted
from ..description import Array, Capture, View, ViewVideo
from ..options import LoadOptions
from ..point_cloud import optional_points
from ..video_file import SUFFIXES, probe
from ..view_images import ImageFile
from .listing import Numbering, Place, number_images

POSES = "poses_bounds.npy"


def recognizes(folder: Path) -> bool:
    return (folder / POSES).exists()


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`. InputError naming the file that is missing or wrong."""
    rows = read_poses(folder)
    contents, numbering = _contents(folder)
    if not contents:
        raise InputError(
            "CAP-101",
            f"{printable(folder.name)} contains {POSES} but no videos. Add one video per camera "
            "(cam00.mp4 …).",
        )
    if len(rows) != len(contents):
        raise InputError(
            "CAP-102",
            f"{POSES} has {len(rows)} rows of poses, but the folder contains {len(contents)} videos. "
            "Provide one row per video, in the order of the file names.",
        )
    warnings: list[str] = []
    views = [_view(folder, p, c, row, warnings) for (p, c), row in zip(contents, rows, strict=True)]
    points, colors = optional_points(
        folder, ("points3D_downsample2.ply", "points3D_downsample.ply"), warnings
    )
    return Capture(
        folder=folder,
        layout="dynerf",
        views=views,
        points=points,
        point_colors=colors,
        near=float(rows[:, 15].min()),
        far=float(rows[:, 16].max()),
        near_far_from=POSES,
        test_views=[views[0].name] if len(views) > 1 else [],
        warnings=warnings,
        notes=numbering.notes,
        time_unit=numbering.time_unit,
        files=[folder / POSES],
    )


def _contents(folder: Path) -> tuple[list[tuple[Path, dict[int, ImageFile] | None]], Numbering]:
    """Videos in the order of their names; else the folders camNN/images (or camNN) of frames taken from them."""
    videos = [p for p in visible(folder) if p.suffix.lower() in SUFFIXES]
    if videos:
        return [(p, None) for p in videos], Numbering([])
    cameras = [p for p in visible(folder, "cam*") if p.is_dir()]
    holders = [p / "images" if (p / "images").is_dir() else p for p in cameras]
    numbering = number_images([Place(holder) for holder in holders], folder)
    return [*zip(cameras, numbering.images(folder), strict=True)], numbering


def _view(
    folder: Path,
    path: Path,
    files: dict[int, ImageFile] | None,
    row: Array,
    warnings: list[str],
) -> View:
    name = printable(path.stem)
    where = f"{POSES}: {name}"
    height, width, focal = row[:15].reshape(3, 5)[:, 4]
    if not np.isfinite(row).all():
        raise InputError(
            "CAP-103", f"{where}: the row contains NaN or infinite values. Export the poses again."
        )
    if focal <= 0 or width < 1 or height < 1:
        raise InputError(
            "CAP-104",
            f"{where}: the size is {width:.6g} × {height:.6g} and the focal length is {focal:.6g}. All "
            "must be greater than 0.",
        )
    images: ViewVideo | dict[int, ImageFile]
    if files is None:
        require_file(path, folder, "copy it again")
        images = ViewVideo(path, relative_name(path, folder), probe(path, relative_name(path, folder)))
        size, label = images.facts.size, images.name
    else:
        images = files
        label = next(iter(images.values())).name
        size = image_size(next(iter(images.values())).path, label)
    scale = size[0] / width
    if abs(height * scale - size[1]) > max(1.0, 0.01 * size[1]):
        raise InputError(
            "CAP-105",
            f"{where} states images of {width:.0f} × {height:.0f} pixels, but {label} has {size[0]} × "
            f"{size[1]}, another aspect ratio. Use the videos that the poses were made for.",
        )
    if abs(scale - 1) > 1e-6:
        warnings.append(
            f"{POSES} was made for images of {width:.0f} × {height:.0f} pixels, but the videos have {size[0]} × "
            f"{size[1]}. Focal lengths are scaled by {scale:.4g}."
        )
    K = np.array([[focal * scale, 0, size[0] / 2], [0, focal * scale, size[1] / 2], [0, 0, 1.0]])
    return View(name, where, K, llff_to_world_to_camera(row), size, images)


def read_poses(folder: Path) -> Array:
    """The rows [cameras, 17] of poses_bounds.npy, float64; nothing is unpickled."""
    path = require_file(folder / POSES, folder, "it contains the cameras of a DyNeRF dataset")
    rows = read_numbers(path, POSES)
    if rows.ndim != 2 or rows.shape[1] != 17:
        found = f"{rows.shape[1]} columns" if rows.ndim == 2 else f"the shape {rows.shape}"
        raise InputError(
            "CAP-106",
            f"{POSES} has {found}, but 17 columns are expected (3 × 5 pose and size, then near and far). "
            "Export it again.",
        )
    return rows


def llff_to_world_to_camera(row: Array) -> Array:
    """One LLFF row [17] → world_to_camera [4, 4] in OpenCV axes (down, right, back → right, down, forward)."""
    block = row[:15].reshape(3, 5)
    down, right, back, position = (block[:, i] for i in range(4))
    camera_to_world = np.eye(4)
    camera_to_world[:3] = np.stack([right, down, -back, position], axis=1)
    return inverted(camera_to_world)
