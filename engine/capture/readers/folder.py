"""The pack's own layout: a folder of videos (or frame folders) and one cameras.json.

    {"format": "multiview-video", "version": 1, "fps": 30, "frame_count": 24, "camera_axes": "opencv",
     "near": 1.0, "far": 9.0, "background": [1, 1, 1], "hold_out": ["cam03"], "hold_out_frames": [20, 21],
     "points": "points.ply",
     "cameras": [{"name": "cam00", "video": "videos/cam00.mp4", "mask": "masks/cam00.mp4", "width": 640, "height": 360,
                  "K": 3 × 3, "w2c": 4 × 4, "distortion": {"model": "opencv", "params": [k1, k2, p1, p2, k3]}}]}

A camera may have "depths": a folder or pattern of gray 16-bit images, in units of "depth_unit" (default 0.001) of the world;
for a video, one for every frame, in ascending order of their numbers. "tracks" names an .npz with pixels [P, T, 2], visible
[P, T] and views [P, T]: where P points are seen at each frame, and by which camera of the list.

Needed: format, version, fps, cameras with name, width, height, K, w2c and either "video" or "frames" (a folder, or a
pattern such as "images/cam00/frame_%05d.png", with "masks" in the same way). A mask is gray, 255 = subject.
Numbers in names order the frames; time stamps give their times, and cameras are paired by them (see `listing`).
"background" is what stands behind masked subjects; where nothing is masked it is what the images show. "hold_out_frames" are
indices of frames, from 0, that no view trains on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...files.jsonfile import read_json
from ...files.npzfile import read_arrays
from ...files.paths import inside, printable, relative_name, require_file
from ...scene.video import Tracks
from ..camera_checks import integer, matrix, number
from ..cameras_json import CAMERAS, FORMAT, VERSION
from ..depth_maps import UNIT
from ..description import Array, Capture, View, ViewVideo
from ..options import LoadOptions
from ..pairing import pair, room
from ..point_cloud import optional_points
from ..undistort import Distortion
from .folder_images import Media, read_images

MOST_TRACK_BYTES = 2 * 2**30
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def recognizes(folder: Path) -> bool:
    return (folder / CAMERAS).exists()


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`. InputError naming the camera or file that is missing or wrong."""
    path = require_file(folder / CAMERAS, folder, "it describes the cameras of this folder")
    data = read_json(path, CAMERAS)
    _check_head(data)
    cameras = data.get("cameras")
    if not isinstance(cameras, list) or not cameras:
        raise InputError(
            "CAP-107", f"{CAMERAS}: the list of cameras is empty or missing. Add at least one camera."
        )
    axes = data.get("camera_axes", "opencv")
    if axes not in ("opencv", "opengl"):
        raise InputError(
            "CAP-108", f"{CAMERAS}: camera_axes is {printable(repr(axes))[:40]}. It must be opencv or opengl."
        )
    unit = number(data, "depth_unit", CAMERAS, UNIT, positive=True)
    warnings: list[str] = []
    fps = number(data, "fps", CAMERAS, positive=True)
    entries = [_entry(camera, i, axes == "opengl") for i, camera in enumerate(cameras)]
    images = read_images(folder, [(e.data, e.where) for e in entries], unit, fps, warnings)
    views = [_view(entry, media) for entry, media in zip(entries, images.media, strict=True)]
    points, colors = None, None
    if "points" in data:
        points_path = inside(folder, data["points"], CAMERAS)
        points, colors = optional_points(folder, (points_path.relative_to(folder).as_posix(),), warnings)
    count = data.get("frame_count")
    videos = [v.images.facts for v in views if isinstance(v.images, ViewVideo)]
    lengths = {facts.frames for facts in videos}
    # dropped frames may be counted or not
    possible = lengths | {room(facts.nanoseconds()) for facts in videos}
    if count is not None and len(lengths) == 1 and integer(data, "frame_count", CAMERAS) not in possible:
        warnings.append(
            f"{CAMERAS} states frame_count {count}, but the videos have {lengths.pop()} frames. All frames are used."
        )
    return Capture(
        folder=folder,
        layout="folder",
        views=views,
        fps=fps,
        time_unit=images.time_unit,
        background=_background(data),
        stores_positions=False,
        points=points,
        point_colors=colors,
        near=number(data, "near", CAMERAS) if data.get("near") is not None else None,
        far=number(data, "far", CAMERAS) if data.get("far") is not None else None,
        near_far_from=CAMERAS,
        test_views=_hold_out(data, views),
        test_moments=_hold_out_frames(data),
        warnings=warnings,
        notes=images.notes,
        files=[path, *([inside(folder, data["tracks"], CAMERAS)] if data.get("tracks") else [])],
        tracks=_tracks(folder, data["tracks"], views, bool(images.time_unit)) if data.get("tracks") else None,
    )


def _check_head(data: dict[str, Any]) -> None:
    if data.get("format", FORMAT) != FORMAT:
        raise InputError(
            "CAP-111",
            f"{CAMERAS}: the format is {printable(repr(data['format']))[:60]}, but '{FORMAT}' is "
            "expected. Export the dataset again.",
        )
    version = data.get("version")
    if version != VERSION or isinstance(version, bool):
        raise InputError(
            "CAP-112",
            f"{CAMERAS} has version {printable(repr(version))[:40]}, but this pack reads version "
            f"{VERSION}. Update the pack, or export the dataset again.",
        )


@dataclass(frozen=True, eq=False)
class _Entry:
    """An entry of the list of cameras, without its images."""

    data: dict[str, Any]
    name: str
    where: str  # for messages
    size: tuple[int, int]
    pose: Array
    K: Array
    lens: Distortion


def _entry(camera: object, index: int, is_opengl: bool) -> _Entry:
    if not isinstance(camera, dict):
        raise InputError(
            "CAP-113", f"{CAMERAS}: camera {index} is not a JSON object. Export the dataset again."
        )
    name = camera.get("name", f"cam{index:02d}")
    if not isinstance(name, str) or not name or len(name) > 200:
        raise InputError(
            "CAP-114",
            f"{CAMERAS}: camera {index} has the name {printable(repr(name))[:60]}. A name must be a text "
            "of 1 to 200 characters.",
        )
    where = f"{CAMERAS}: {printable(name)}"
    size = (integer(camera, "width", where), integer(camera, "height", where))
    pose = matrix(camera.get("w2c", camera.get("world_to_camera")), (4, 4), "w2c", where)
    K = matrix(camera.get("K"), (3, 3), "K", where)
    lens = _distortion(camera["distortion"], where) if camera.get("distortion") else Distortion()
    if ("video" in camera) == ("frames" in camera):
        raise InputError(
            "CAP-115", f'{where}: either "video" or "frames" must give the location of the images, not both.'
        )
    return _Entry(camera, name, where, size, OPENGL @ pose if is_opengl else pose, K, lens)


def _view(entry: _Entry, media: Media) -> View:
    return View(
        entry.name, entry.where, entry.K, entry.pose, entry.size, media.images, entry.lens, media.depths
    )


def _tracks(folder: Path, name: object, views: list[View], is_time: bool) -> Tracks:
    """Tracks of the views; `is_time` where frames of images are times."""
    path = inside(folder, name, CAMERAS)
    shown = relative_name(path, folder)
    arrays = read_arrays(path, shown, ("pixels", "visible", "views"), MOST_TRACK_BYTES)
    pixels, visible, seen_by = (arrays.get(key) for key in ("pixels", "visible", "views"))
    if pixels is None or visible is None or seen_by is None:
        raise InputError(
            "CAP-167",
            f"{shown}: pixels, visible or views is missing. Export the tracks with all three arrays.",
        )
    numbers = [sorted(view.images) for view in views if isinstance(view.images, dict)]
    moments = len(pair(numbers).times) if is_time else len({n for view in numbers for n in view})
    frames = max([moments, *(v.images.facts.frames for v in views if isinstance(v.images, ViewVideo))])
    which = torch.as_tensor(seen_by.astype(np.int64))
    if which.ndim != 2 or which.shape[1] != frames or bool(((which < 0) | (which >= len(views))).any()):
        raise InputError(
            "CAP-168",
            f"{shown}: views has shape {tuple(which.shape)}; expected one of the {len(views)} cameras, counted from 0, for "
            f"each point at each of {frames} frames. Export the tracks again.",
        )
    seen = torch.as_tensor(visible.astype(bool))
    try:
        tracks = Tracks(torch.as_tensor(pixels.astype(np.float32)), seen, which)
    except InputError as error:
        raise error.at(shown) from error
    if not bool(torch.isfinite(tracks.pixels[seen]).all()):
        raise InputError(
            "CAP-169", f"{shown}: a visible point has no finite position. Export the tracks again."
        )
    return tracks


def _distortion(value: object, where: str) -> Distortion:
    if not isinstance(value, dict) or not isinstance(value.get("params"), list):
        raise InputError(
            "CAP-116", f"{where}: distortion must contain a model and a list of params. Correct the entry."
        )
    numbers = matrix(value["params"], (len(value["params"]),), "distortion", where)
    try:
        return Distortion(str(value.get("model", "opencv")), tuple(numbers.tolist()))
    except InputError as error:
        raise error.at(where) from error


def _background(data: dict[str, Any]) -> tuple[float, float, float] | None:
    if data.get("background") is None:
        return None
    r, g, b = matrix(data["background"], (3,), "background", CAMERAS).tolist()
    if not all(0 <= c <= 1 for c in (r, g, b)):
        raise InputError(
            "CAP-120", f"{CAMERAS}: background is ({r:.4g}, {g:.4g}, {b:.4g}). Its values must be in 0..1."
        )
    return (r, g, b)


def _hold_out(data: dict[str, Any], views: list[View]) -> list[str]:
    names = data.get("hold_out") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputError("CAP-121", f"{CAMERAS}: hold_out must be a list of camera names. Correct the entry.")
    known = {v.name for v in views}
    for name in names:
        if name not in known:
            raise InputError(
                "CAP-122",
                f"{CAMERAS}: hold_out names '{printable(name)}', which is not a camera of the list. Correct "
                "the name.",
            )
    return names


def _hold_out_frames(data: dict[str, Any]) -> list[int]:
    """Indices of the frames that are held out; those beyond the video's end do no harm."""
    frames = data.get("hold_out_frames") or []
    if not isinstance(frames, list) or not all(type(n) is int and n >= 0 for n in frames):
        raise InputError(
            "CAP-164",
            f"{CAMERAS}: hold_out_frames must be a list of frame indices, from 0. Correct the entry.",
        )
    return frames
