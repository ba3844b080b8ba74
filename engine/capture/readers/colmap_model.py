"""A COLMAP reconstruction (Schönberger & Frahm 2016): cameras, images and points, from text or binary files.

Counts in binary files are compared with the bytes that are left before anything is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...files.paths import printable, read_regular, relative_name, require_file
from ...scene.cameras import Origin
from ...scene.origins import origin_for
from .colmap_values import (
    MODELS,
    Array,
    ColmapCamera,
    ColmapImage,
    camera_of,
    centers_of,
    check_model,
    pose_of,
)

# bytes of one model file
LARGEST = 4 * 2**30
# frames.bin: the number of the sensor kind "camera"
CAMERA_SENSOR = 0


@dataclass(frozen=True, eq=False)
class ColmapModel:
    cameras: dict[int, ColmapCamera]
    images: list[ColmapImage]
    points: Array | None  # [P, 3]
    point_colors: Array | None  # [P, 3] in 0..1
    files: list[Path]
    frames: dict[int, int]  # image key → frame of a rig, from frames.bin or frames.txt; empty without one
    frames_name: str = ""

    @cached_property
    def origin(self) -> Origin:
        """A place near all cameras: zero, unless they are far from it (`scene.origins`)."""
        poses = np.stack([image.world_to_camera for image in self.images])
        return origin_for(torch.from_numpy(centers_of(poses)))


def is_model(folder: Path) -> bool:
    """Whether `folder` looks like a reconstruction, whole or not."""
    return any((folder / f"{n}.{e}").exists() for n in ("cameras", "images") for e in ("bin", "txt"))


def image_count(folder: Path, root: Path) -> int:
    """How many images the reconstruction in `folder` has. InputError naming the file at fault."""
    path = folder / "images.bin"
    if path.exists():
        return _Bytes(require_file(path, root, "copy it again"), relative_name(path, root)).count(
            73, "images"
        )
    path = require_file(folder / "images.txt", root, "a COLMAP model needs it; export the model again")
    return len(_images_txt(path, relative_name(path, root)))


def read_model(folder: Path, root: Path) -> ColmapModel:
    """The reconstruction in `folder`, a folder inside the dataset `root`. InputError naming the file at fault."""
    binary = (folder / "cameras.bin").exists() or (folder / "images.bin").exists()
    paths = _model_files(folder, root, "bin" if binary else "txt")
    label = {n: relative_name(p, root) for n, p in paths.items()}
    cameras = (_cameras_bin if binary else _cameras_txt)(paths["cameras"], label["cameras"])
    images = (_images_bin if binary else _images_txt)(paths["images"], label["images"])
    if not images:
        raise InputError(
            "CAP-083", f"{label['images']} lists no images. Run COLMAP again until it registers images."
        )
    for image in images:
        if image.camera_id not in cameras:
            raise InputError(
                "CAP-084",
                f"{image.where} uses camera {image.camera_id}, which {label['cameras']} does not list. Export "
                "the model again.",
            )
    points, colors = None, None
    if paths["points3D"].is_file():
        points, colors = (_points_bin if binary else _points_txt)(paths["points3D"], label["points3D"])
    frames: dict[int, int] = {}
    if paths["frames"].is_file():
        frames = (_frames_bin if binary else _frames_txt)(paths["frames"], label["frames"])
    files = [p for p in paths.values() if p.exists()]
    return ColmapModel(cameras, images, points, colors, files, frames, paths["frames"].name)


def _model_files(folder: Path, root: Path, ending: str) -> dict[str, Path]:
    """The files of a model by name; cameras and images must exist, and none may be too large to read."""
    paths = {n: folder / f"{n}.{ending}" for n in ("cameras", "images", "points3D", "frames")}
    for name in ("cameras", "images"):
        require_file(paths[name], root, "a COLMAP model needs it; export the model again")
    for path in paths.values():
        if path.exists() and path.stat().st_size > LARGEST:
            raise InputError(
                "CAP-082",
                f"{relative_name(path, root)} has {path.stat().st_size:,} bytes; at most {LARGEST:,} are "
                "supported. Export a smaller model.",
            )
    return paths


class _Bytes:
    """A binary file in order; asking for more than is left is an InputError."""

    def __init__(self, path: Path, name: str) -> None:
        self.data, self.at, self.name = read_regular(path), 0, name

    def take(self, layout: str) -> tuple[Any, ...]:
        length = struct.calcsize(layout)
        self.need(length)
        self.at += length
        return struct.unpack_from(layout, self.data, self.at - length)

    def need(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise InputError(
                "CAP-088",
                f"{self.name} is cut short or damaged ({len(self.data):,} bytes). Copy or export the model "
                "again.",
            )

    def count(self, least: int, what: str) -> int:
        """A count of things of at least `least` bytes each, checked against the bytes that are left."""
        (count,) = self.take("<Q")
        if count * least > len(self.data) - self.at:
            raise InputError(
                "CAP-089",
                f"{self.name} claims {count:,} {what} but has only {len(self.data):,} bytes; it is cut short "
                "or damaged. Copy or export the model again.",
            )
        return count

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0 or end - self.at > 4096:
            raise InputError(
                "CAP-090",
                f"{self.name} is cut short or damaged (an image name does not end). Copy or export the model "
                "again.",
            )
        raw, self.at = self.data[self.at : end], end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            escaped = printable(raw.decode("utf-8", "backslashreplace"))[:80]
            raise InputError(
                "CAP-091",
                f"{self.name}: the image name '{escaped}' is not valid UTF-8. Rename the image and export the "
                "model again.",
            ) from error


def _cameras_bin(path: Path, name: str) -> dict[int, ColmapCamera]:
    file, found = _Bytes(path, name), {}
    for _ in range(file.count(24, "cameras")):
        key, model, width, height = file.take("<IiQQ")
        where = f"{name}: camera {key}"
        check_model(model, where)
        params = file.take(f"<{MODELS[model][1]}d")
        found[key] = camera_of(MODELS[model][0], (width, height), params, where)
    return found


def _images_bin(path: Path, name: str) -> list[ColmapImage]:
    file, found = _Bytes(path, name), []
    for _ in range(file.count(73, "images")):
        key, *pose, camera = file.take("<I7dI")
        image = file.text()
        seen = file.count(24, "observations")
        file.at += 24 * seen
        where = f"{name}: {printable(image)}"
        made = pose_of(tuple(pose[:4]), tuple(pose[4:]), where)
        found.append(ColmapImage(image, where, camera, made, key))
    return found


def _frames_bin(path: Path, name: str) -> dict[int, int]:
    """Image → frame, of the images that cameras took (rigs may have other sensors)."""
    file, found = _Bytes(path, name), dict[int, int]()
    for _ in range(file.count(68, "frames")):
        frame, _, *_, count = file.take("<II7dI")
        file.need(16 * count)
        for _ in range(count):
            sensor, _, image = file.take("<iIQ")
            if sensor == CAMERA_SENSOR:
                found[image] = frame
    return found


def _points_bin(path: Path, name: str) -> tuple[Array, Array]:
    file = _Bytes(path, name)
    count = file.count(51, "points")
    xyz, rgb = np.empty((count, 3)), np.empty((count, 3))
    for i in range(count):
        _, x, y, z, r, g, b, _, track = file.take("<Q3d3BdQ")
        file.need(8 * track)
        file.at += 8 * track
        xyz[i], rgb[i] = (x, y, z), (r, g, b)
    return _finite(xyz, rgb)


def _lines(path: Path, name: str) -> Iterator[str]:
    """Lines of a text file without comments; the empty ones stay, for an image without observations has one."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if not line.startswith("#"):
                    yield line.strip()
    except UnicodeDecodeError as error:
        raise InputError("CAP-093", f"{name} is not valid UTF-8. Save it again as UTF-8.") from error


def _cameras_txt(path: Path, name: str) -> dict[int, ColmapCamera]:
    counts = dict(MODELS.values())
    found: dict[int, ColmapCamera] = {}
    for line in filter(None, _lines(path, name)):
        words = line.split()
        where = f"{name}: camera {printable(words[0])[:20]}"
        if len(words) > 1:
            check_model(words[1], where)
        try:
            key, width, height = int(words[0]), int(words[2]), int(words[3])
            params = tuple(float(w) for w in words[4:])
        except (ValueError, IndexError) as error:
            raise InputError(
                "CAP-095", f"{where}: the line is incomplete. Export the model again."
            ) from error
        if len(params) != counts[words[1]]:
            raise InputError(
                "CAP-096",
                f"{where}: {words[1]} needs {counts[words[1]]} parameters, but the line has {len(params)}. "
                "Export the model again.",
            )
        found[key] = camera_of(words[1], (width, height), params, where)
    return found


def _images_txt(path: Path, name: str) -> list[ColmapImage]:
    found: list[ColmapImage] = []
    lines = _lines(path, name)
    for line in lines:
        if not line:
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise InputError(
                "CAP-097",
                f"{name}: the line '{printable(line)[:60]}' is incomplete. Export the model again.",
            )
        image = words[9]
        where = f"{name}: {printable(image)}"
        try:
            key, pose, camera = int(words[0]), [float(w) for w in words[1:8]], int(words[8])
        except ValueError as error:
            raise InputError(
                "CAP-098", f"{where}: the line is incomplete. Export the model again."
            ) from error
        made = pose_of(tuple(pose[:4]), tuple(pose[4:]), where)
        found.append(ColmapImage(image, where, camera, made, key))
        next(lines, None)  # its observations
    return found


def _frames_txt(path: Path, name: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for line in filter(None, _lines(path, name)):
        words = line.split()
        try:
            frame, count = int(words[0]), int(words[9])
            data = [(words[10 + 3 * i], int(words[12 + 3 * i])) for i in range(min(count, len(words)))]
        except (ValueError, IndexError) as error:
            raise InputError(
                "CAP-199", f"{name}: the line '{printable(line)[:60]}' is damaged. Export the model again."
            ) from error
        found |= {image: frame for sensor, image in data if sensor == "CAMERA"}
    return found


def _points_txt(path: Path, name: str) -> tuple[Array, Array]:
    rows: list[list[float]] = []
    for line in filter(None, _lines(path, name)):
        try:
            row = [float(w) for w in line.split(maxsplit=7)[1:7]]
        except ValueError as error:
            raise InputError(
                "CAP-099", f"{name}: the line '{printable(line)[:60]}' is damaged. Export the model again."
            ) from error
        if len(row) != 6:
            raise InputError(
                "CAP-100", f"{name}: the line '{printable(line)[:60]}' is incomplete. Export the model again."
            )
        rows.append(row)
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return _finite(table[:, :3], table[:, 3:])


def _finite(xyz: Array, rgb: Array) -> tuple[Array, Array]:
    good = np.isfinite(xyz).all(axis=1)
    return xyz[good], (rgb[good] / 255.0).clip(0, 1)
