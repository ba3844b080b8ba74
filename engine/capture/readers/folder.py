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
"background" is what stands behind masked subjects; where nothing is masked it is what the images show. "hold_out_frames" are
indices of frames, from 0, that no view trains on.
"""

from __future__ import annotations

import re
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
from ..depth_maps import UNIT, DepthFile
from ..description import Capture, View, ViewVideo
from ..frames import ImageFile
from ..options import LoadOptions
from ..point_cloud import optional_points
from ..undistort import Distortion
from ..video_file import probe
from .listing import moments_of, numbered_images

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
    views = [_view(folder, camera, i, axes == "opengl", unit) for i, camera in enumerate(cameras)]
    _same_moments(views)
    warnings: list[str] = []
    points, colors = None, None
    if "points" in data:
        points_path = inside(folder, data["points"], CAMERAS)
        points, colors = optional_points(folder, (points_path.relative_to(folder).as_posix(),), warnings)
    count = data.get("frame_count")
    lengths = {v.images.facts.frames for v in views if isinstance(v.images, ViewVideo)}
    if (
        count is not None
        and lengths
        and lengths != {integer(data, "frame_count", CAMERAS)}
        and len(lengths) == 1
    ):
        warnings.append(
            f"{CAMERAS} states frame_count {count}, but the videos have {lengths.pop()} frames. All frames are used."
        )
    return Capture(
        folder=folder,
        layout="folder",
        views=views,
        fps=number(data, "fps", CAMERAS, positive=True),
        background=_background(data),
        points=points,
        point_colors=colors,
        near=number(data, "near", CAMERAS) if data.get("near") is not None else None,
        far=number(data, "far", CAMERAS) if data.get("far") is not None else None,
        near_far_from=CAMERAS,
        test_views=_hold_out(data, views),
        test_moments=_hold_out_frames(data),
        warnings=warnings,
        files=[path, *([inside(folder, data["tracks"], CAMERAS)] if data.get("tracks") else [])],
        tracks=_tracks(folder, data["tracks"], views) if data.get("tracks") else None,
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


def _view(folder: Path, camera: object, index: int, is_opengl: bool, unit: float) -> View:
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
    lens = Distortion()
    if camera.get("distortion"):
        lens = _distortion(camera["distortion"], where)
    if ("video" in camera) == ("frames" in camera):
        raise InputError(
            "CAP-115", f'{where}: either "video" or "frames" must give the location of the images, not both.'
        )
    images: ViewVideo | dict[int, ImageFile]
    if "video" in camera:
        images = _video(folder, camera, where)
    else:
        images = _images(folder, camera, where)
    depths = _depths(folder, camera, where, unit, images) if camera.get("depths") is not None else {}
    return View(name, where, K, OPENGL @ pose if is_opengl else pose, size, images, lens, depths)


def _depths(
    folder: Path, camera: dict[str, Any], where: str, unit: float, images: ViewVideo | dict[int, ImageFile]
) -> dict[int, DepthFile]:
    """Number in the file name → depth map; of a video, the frame it belongs to."""
    files = _numbered(folder, camera["depths"], where)
    if isinstance(images, ViewVideo):
        if len(files) != images.facts.frames:
            raise InputError(
                "CAP-171",
                f"{where}: there are {len(files)} depth maps, but {images.name} has {images.facts.frames} frames. Provide a "
                "depth map for every frame.",
            )
        files = dict(enumerate(files[number] for number in sorted(files)))
    elif unmatched := sorted(files.keys() - images.keys()):
        raise InputError(
            "CAP-172",
            f"{where}: {len(unmatched)} depth maps have no image of the same number, such as "
            f"{relative_name(files[unmatched[0]], folder)}. Give each the number of its image, or remove it.",
        )
    return {n: DepthFile(path, relative_name(path, folder), unit) for n, path in files.items()}


def _tracks(folder: Path, name: object, views: list[View]) -> Tracks:
    path = inside(folder, name, CAMERAS)
    shown = relative_name(path, folder)
    arrays = read_arrays(path, shown, ("pixels", "visible", "views"), MOST_TRACK_BYTES)
    pixels, visible, seen_by = (arrays.get(key) for key in ("pixels", "visible", "views"))
    if pixels is None or visible is None or seen_by is None:
        raise InputError(
            "CAP-167",
            f"{shown}: pixels, visible or views is missing. Export the tracks with all three arrays.",
        )
    moments = {n for view in views if isinstance(view.images, dict) for n in view.images}
    frames = max([len(moments), *(v.images.facts.frames for v in views if isinstance(v.images, ViewVideo))])
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


def _video(folder: Path, camera: dict[str, Any], where: str) -> ViewVideo:
    path = inside(folder, camera["video"], where)
    name = relative_name(path, folder)
    facts = probe(path, name)
    if camera.get("mask") is None:
        return ViewVideo(path, name, facts)
    mask = inside(folder, camera["mask"], where)
    mask_name = relative_name(mask, folder)
    mask_facts = probe(mask, mask_name)
    if mask_facts.size[0] * facts.size[1] != mask_facts.size[1] * facts.size[0]:
        raise InputError(
            "CAP-117",
            f"{mask_name} has {mask_facts.size[0]} × {mask_facts.size[1]} pixels, but its video has "
            f"{facts.size[0]} × {facts.size[1]}. A mask must have the aspect ratio of its video.",
        )
    return ViewVideo(path, name, facts, mask, mask_name, mask_facts)


def _images(folder: Path, camera: dict[str, Any], where: str) -> dict[int, ImageFile]:
    """Number in the file name → image; `_same_moments` turns numbers into frame indices."""
    files = _numbered(folder, camera["frames"], where)
    masks = _numbered(folder, camera["masks"], where) if camera.get("masks") else None
    images: dict[int, ImageFile] = {}
    for at, path in files.items():
        if masks is not None and at not in masks:
            raise InputError(
                "CAP-118",
                f"{where}: the image {relative_name(path, folder)} has no mask. Provide a mask for every "
                "image.",
            )
        mask = masks[at] if masks is not None else None
        images[at] = ImageFile(
            path, relative_name(path, folder), mask, relative_name(mask, folder) if mask else ""
        )
    return images


def _numbered(folder: Path, pattern: object, where: str) -> dict[int, Path]:
    """Files of a folder, or of a pattern with one %d, by the number in their names."""
    path = inside(folder, pattern, where)
    if not path.is_dir() and len(re.findall(r"%0?\d*d", path.name)) != 1:
        raise InputError(
            "CAP-119",
            f"{where}: '{printable(str(pattern))}' is neither a folder nor a pattern with one %05d. "
            "Correct the entry.",
        )
    directory, names = (path, None) if path.is_dir() else (path.parent, path.name)
    try:
        return numbered_images(directory, folder, names)
    except InputError as error:
        raise error.at(where) from error


def _same_moments(views: list[View]) -> None:
    """Numbers in file names become frame indices: the numbers of all views, in order."""
    moment = moments_of(v.images for v in views if isinstance(v.images, dict))
    for view in views:
        if isinstance(view.images, dict):
            renumbered = {moment[n]: image for n, image in view.images.items()}
            view.images.clear()
            view.images.update(renumbered)
            depths = {moment[n]: depth for n, depth in view.depths.items()}
            view.depths.clear()
            view.depths.update(depths)


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
