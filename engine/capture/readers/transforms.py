"""What D-NeRF and nerfstudio share: frames of a transforms.json, each with its pose, lens, image, mask and time.

Poses are camera-to-world with OpenGL axes (x right, y up, z backwards). World and units stay the file's own: a
nerfstudio `applied_transform` or `applied_scale` is already in the poses and in the points beside them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...files.images import image_size
from ...files.paths import inside, printable, relative_name
from ...scene.cameras import AT_ZERO, Origin
from ...scene.origins import origin_for
from ..camera_checks import inverted, matrix, number
from ..depth_maps import UNIT, DepthFile
from ..description import Array, Capture, View
from ..undistort import Distortion
from ..view_images import ImageFile

MOST_FRAMES = 200_000
# columns: OpenGL camera axes → OpenCV's
FLIP = np.array([1.0, -1.0, -1.0, 1.0])
LABELS = ("camera_label", "camera_id", "camera_index", "cam_id", "camera")


@dataclass(frozen=True, eq=False)
class Shot:
    """One entry of `frames`."""

    image: ImageFile
    where: str  # for messages
    pose: Array  # [4, 4] camera-to-world, OpenGL axes
    K: Array
    size: tuple[int, int]
    distortion: Distortion
    time: float | None
    label: str  # the camera's name, "" where the file gives none
    depth: DepthFile | None = None
    split: str = "train"  # or "test", "val"
    origin: Origin = AT_ZERO  # near which all cameras of the file are

    def stands_with(self, other: Shot) -> bool:
        """Whether both images come from one camera that did not move between them."""
        reach = 1e-5 * (1 + np.abs(other.pose[:3, 3] - other.origin).max())
        with np.errstate(invalid="ignore"):
            moved, zoomed = np.abs(self.pose - other.pose).max(), np.abs(self.K - other.K).max()
        return (
            (self.label, self.size, self.distortion, self.split)
            == (other.label, other.size, other.distortion, other.split)
            and bool(moved <= reach)  # False for NaN
            and bool(zoomed <= 1e-3)
        )


def shots(folder: Path, data: dict[str, Any], file: str, split: str = "train") -> list[Shot]:
    """All entries of one transforms file, in its order. InputError names the entry at fault."""
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise InputError(
            "CAP-133", f"{file}: the list of frames is empty or missing. Add at least one image."
        )
    if len(frames) > MOST_FRAMES:
        raise InputError(
            "CAP-134",
            f"{file} lists {len(frames):,} frames; at most {MOST_FRAMES:,} are supported. Split the dataset.",
        )
    common = {key: value for key, value in data.items() if key != "frames"}
    found = [_shot(folder, common, frame, file, i, split) for i, frame in enumerate(frames)]
    origin = origin_for(torch.from_numpy(np.stack([shot.pose[:3, 3] for shot in found])))
    return found if origin == AT_ZERO else [replace(shot, origin=origin) for shot in found]


def _shot(folder: Path, common: dict[str, Any], frame: object, file: str, index: int, split: str) -> Shot:
    if not isinstance(frame, dict):
        raise InputError("CAP-135", f"{file}: frame {index} is not a JSON object. Export the file again.")
    path = inside(folder, frame.get("file_path"), f"{file}: frame {index}")
    if not path.suffix or not path.is_file():
        path = next(
            (p for s in (".png", ".jpg", ".jpeg") if (p := path.with_name(path.name + s)).is_file()), path
        )
    name = relative_name(path, folder)
    where = f"{file}: {name}"
    both = common | frame
    pose = matrix(_rows(frame.get("transform_matrix")), (4, 4), "transform_matrix", where)
    mask = frame.get("mask_path", frame.get("fg_mask_path"))
    mask_path = None if mask is None else inside(folder, mask, where)
    has_size = "w" in both and "h" in both
    size = _integer_size(both, where) if has_size else image_size(path, name)
    time = number(both, "time", where) if both.get("time") is not None else None
    if time is None and frame.get("timestep_index") is not None:
        time = number(frame, "timestep_index", where)
    label = next((str(frame[key]) for key in LABELS if frame.get(key) is not None), "")
    image = ImageFile(path, name, mask_path, relative_name(mask_path, folder) if mask_path else "")
    K, lens = _intrinsics(both, size, where), _lens(both, where)
    return Shot(image, where, pose, K, size, lens, time, label, _depth(folder, both, where), split)


def _depth(folder: Path, data: dict[str, Any], where: str) -> DepthFile | None:
    """The depth map of a frame, in nerfstudio's unit of a thousandth unless the file gives another one."""
    if data.get("depth_file_path") is None:
        return None
    path = inside(folder, data["depth_file_path"], where)
    unit = number(data, "depth_unit_scale_factor", where, UNIT, positive=True)
    return DepthFile(path, relative_name(path, folder), unit)


def _rows(value: object) -> object:
    """A 3 × 4 pose gets its last row."""
    return [*value, [0, 0, 0, 1]] if isinstance(value, list) and len(value) == 3 else value


def _integer_size(data: dict[str, Any], where: str) -> tuple[int, int]:
    width, height = (number(data, key, where) for key in ("w", "h"))
    if width < 1 or height < 1:
        raise InputError(
            "CAP-136",
            f"{where}: the image size is {width:g} × {height:g} pixels. Width and height must be at least 1.",
        )
    return int(width), int(height)


def _intrinsics(data: dict[str, Any], size: tuple[int, int], where: str) -> Array:
    """K from focal lengths, or from fields of view in radians; the principal point is the middle unless given."""
    if data.get("fl_x") is not None:
        fx = number(data, "fl_x", where)
        fy = number(data, "fl_y", where) if data.get("fl_y") is not None else fx
    elif data.get("camera_angle_x") is not None:
        fx = _from_angle(data, "camera_angle_x", size[0], where)
        fy = (
            _from_angle(data, "camera_angle_y", size[1], where)
            if data.get("camera_angle_y") is not None
            else fx
        )
    else:
        raise InputError("CAP-137", f"{where}: the focal length is missing. Add fl_x or camera_angle_x.")
    cx = number(data, "cx", where, size[0] / 2)
    cy = number(data, "cy", where, size[1] / 2)
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _from_angle(data: dict[str, Any], key: str, pixels: int, where: str) -> float:
    angle = number(data, key, where)
    if not 0 < angle < math.pi:
        raise InputError(
            "CAP-138",
            f"{where}: {key} is {angle:.6g}. It must be between 0 and π radians.",
        )
    return pixels / (2 * math.tan(angle / 2))


def _lens(data: dict[str, Any], where: str) -> Distortion:
    model = str(data.get("camera_model", "OPENCV")).upper()
    names = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
    values = {key: number(data, key, where) if key in data else 0.0 for key in names}
    if model in ("PINHOLE", "SIMPLE_PINHOLE"):
        return Distortion()
    if model in ("OPENCV_FISHEYE", "FISHEYE") or data.get("is_fisheye") is True:
        return Distortion("fisheye", tuple(values[k] for k in ("k1", "k2", "k3", "k4")))
    if model in ("OPENCV", "FULL_OPENCV", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL"):
        params = tuple(values[k] for k in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"))
        # nerfstudio writes k4 of other models too; without a rational part it means nothing here
        return (
            Distortion("opencv", params if model == "FULL_OPENCV" else params[:5])
            if any(params)
            else Distortion()
        )
    raise InputError(
        "CAP-139",
        f"{where}: camera_model {printable(model)[:40]} is not supported. Use PINHOLE, OPENCV or "
        "OPENCV_FISHEYE.",
    )


def capture_of(found: list[Shot], folder: Path, layout: str, file: str, one_view_each: bool) -> Capture:
    """Views and times from shots: one view for each camera that stays, or for each image."""
    found, times, fractions, warnings = _timed(found, file)
    moment = {time: i for i, time in enumerate(times)}
    _no_doubles(found)
    groups = [[shot] for shot in found] if one_view_each else _cameras(found)
    groups.sort(key=lambda g: (g[0].label, g[0].split != "train", g[0].image.name))
    names = _names(groups)
    views = [_view(group, names[group[0].where], moment) for group in groups]
    train, test = _splits({view.name: group[0].split for view, group in zip(views, groups, strict=True)})
    return Capture(
        folder=folder,
        layout=layout,
        views=views,
        times=np.array(times),
        times_are_fractions=fractions,
        test_views=test,
        train_views=train,
        warnings=warnings,
    )


def _view(group: list[Shot], name: str, moment: dict[float, int]) -> View:
    """The view of one camera from all its shots."""
    images: dict[int, ImageFile] = {}
    for shot in group:
        assert shot.time is not None
        if moment[shot.time] in images:
            other = images[moment[shot.time]]
            raise InputError(
                "CAP-140",
                f"{shot.where} and {other.name} show the same camera at the same time ({shot.time:g}). Remove "
                "one.",
            )
        images[moment[shot.time]] = shot.image
    first = group[0]
    pose = inverted(first.pose * FLIP)
    depths = {moment[s.time]: s.depth for s in group if s.depth is not None and s.time is not None}
    return View(name, first.where, first.K, pose, first.size, images, first.distortion, depths)


def _splits(splits: dict[str, str]) -> tuple[list[str], list[str]]:
    """Names of the views to train on and of those held out: the test views, or those of val where there are none."""
    test = [n for n, s in splits.items() if s == "test"] or [n for n, s in splits.items() if s == "val"]
    return [n for n, s in splits.items() if s == "train"] if test else [], test


def _cameras(found: list[Shot]) -> list[list[Shot]]:
    """Shots grouped by camera: those of one label, or of one folder, that stand at one place."""
    groups: dict[Any, list[list[Shot]]] = {}
    for shot in sorted(found, key=lambda s: s.image.name):
        coarse = np.round(shot.pose, 3).tobytes() if not shot.label else b""
        same = groups.setdefault((shot.label, shot.split, Path(shot.image.name).parent, coarse), [])
        # A moving camera has a place for each image: only the last few places can be where it still stands.
        group = next((g for g in same[-4:] if shot.stands_with(g[0])), None)
        if group is None:
            same.append([shot])
        else:
            group.append(shot)
    return [group for same in groups.values() for group in same]


def _names(members: list[list[Shot]]) -> dict[str, str]:
    """Name of each group by its first shot's `where`: its label or its folder where unique, else its file."""
    labels = Counter(g[0].label for g in members)
    folders = Counter(Path(g[0].image.name).parent for g in members)
    names: dict[str, str] = {}
    for group in members:
        path = Path(group[0].image.name)
        name = path.with_suffix("").as_posix()
        if group[0].label and labels[group[0].label] == 1:
            name = printable(group[0].label)
        elif len(group) > 1 and folders[path.parent] == 1 and path.parent.name:
            name = path.parent.name
        names[group[0].where] = name
    if len(set(names.values())) < len(names):
        return {g[0].where: Path(g[0].image.name).with_suffix("").as_posix() for g in members}
    return names


def _timed(found: list[Shot], file: str) -> tuple[list[Shot], list[float], bool, list[str]]:
    """Shots with times, the distinct times ascending, whether they are fractions of a video, and warnings."""
    warnings: list[str] = []
    if not _have_times(found):
        warnings.append(f"{file} stores no times, so all images are assumed to show the same time.")
    found = [replace(s, time=round(s.time or 0.0, 9)) for s in found]
    times = sorted({s.time for s in found if s.time is not None})
    outside = [s for s in found if s.time is not None and not 0 <= s.time <= 1]
    for shot in outside:
        _check_outlier(shot, times)
    if outside and min(times) < 0:
        warnings.append(f"{file}: the times start before 0 (at {min(times):g}). They are used unchanged.")
    return found, times, not outside, warnings


def _have_times(found: list[Shot]) -> bool:
    """Whether the file stores times. InputError where it does so for some frames only."""
    without = [s for s in found if s.time is None]
    if without and len(without) < len(found):
        raise InputError(
            "CAP-141", f"{without[0].where} has no time, but other frames do. Give every frame a time."
        )
    return not without


def _check_outlier(shot: Shot, times: list[float]) -> None:
    """InputError where the time of `shot` is farther from every other one than those span."""
    assert shot.time is not None
    others = [t for t in times if t != shot.time]
    if others and min(abs(t - shot.time) for t in others) > max(others) - min(others) > 0:
        raise InputError(
            "CAP-142",
            f"{shot.where}: the time {shot.time:g} is far outside the range of the other frames "
            f"({min(others):g} to {max(others):g}). Correct it.",
        )


def _no_doubles(found: list[Shot]) -> None:
    """One camera cannot be at two places at one time, nor one file be two images."""
    seen: dict[Any, Shot] = {}
    for shot in found:
        keys: list[Any] = [("file", shot.image.name)]
        if shot.label:
            keys.append((shot.label, shot.time))
        for key in keys:
            if key in seen:
                same = (
                    "but the file is listed twice"
                    if key[0] == "file"
                    else f"and so does {seen[key].image.name}"
                )
                raise InputError(
                    "CAP-143",
                    f"{shot.where} shows camera '{printable(shot.label)}' at time {shot.time:g}, {same}. Remove "
                    "one.",
                )
            seen[key] = shot
