"""HyperNeRF / Nerfies (Park et al. 2021): dataset.json, metadata.json, scene.json, camera/ID.json, rgb/Nx/ID.png.

`orientation` holds the rows of the world-to-camera rotation in OpenCV axes, `position` the camera's center. Near and
far of scene.json are in normalized units, (position - center) · scale; here everything stays in the cameras' units.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...files.images import image_size
from ...files.jsonfile import read_json
from ...files.paths import inside, printable, relative_name, require_file
from ..camera_checks import matrix, number
from ..description import Capture, View
from ..options import LoadOptions
from ..point_cloud import optional_points, points_array
from ..timing import USUAL_FPS
from ..undistort import Distortion
from ..view_images import ImageFile

DATASET = "dataset.json"
MOST_IDS = 100_000


def recognizes(folder: Path) -> bool:
    return (folder / DATASET).exists() and (folder / "camera").is_dir()


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`: one view per image. InputError names the image or file at fault."""
    paths = {n: folder / f"{n}.json" for n in ("dataset", "metadata", "scene")}
    for path in (paths["dataset"], paths["metadata"]):
        require_file(path, folder, "a HyperNeRF dataset needs it")
    data, metadata = (read_json(paths[n], f"{n}.json") for n in ("dataset", "metadata"))
    ids, train, test = _ids(data)
    reduction = _reduction(folder, ids, options.scale)
    warps = {i: _warp(metadata, i) for i in ids}
    frames = sorted(set(warps.values()))
    moment = {warp: m for m, warp in enumerate(frames)}
    views = [_view(folder, i, moment[warps[i]], reduction) for i in ids]
    warnings: list[str] = []
    fps = options.frames_per_second
    if not fps:
        fps = USUAL_FPS
        warnings.append(
            f"HyperNeRF datasets store no frame rate, so {fps:g} fps is assumed. Set frames_per_second to correct it."
        )
    near, far = _near_far(paths["scene"])
    points, colors = optional_points(
        folder, ("points3D_downsample2.ply", "points3D_downsample.ply"), warnings
    )
    if points is None:
        points = points_array(folder, "points.npy", warnings)
    return Capture(
        folder=folder,
        layout="hypernerf",
        views=views,
        times=(np.array(frames, dtype=np.float64) - frames[0]) / fps,
        points=points,
        point_colors=colors,
        near=near,
        far=far,
        near_far_from="scene.json",
        train_views=train if test else [],
        test_views=test,
        warnings=warnings,
        files=[p for p in paths.values() if p.exists()],
        scale_done=1.0 / reduction,
    )


def _ids(data: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """All ids in order, those to train on and those held out; without val_ids every 4th trains, two later tests."""
    lists: dict[str, list[str]] = {}
    for key in ("ids", "train_ids", "val_ids"):
        names = data.get(key) or []
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise InputError("CAP-123", f"{DATASET}: {key} must be a list of names. Correct the entry.")
        lists[key] = names
    ids = lists["ids"] or [*lists["train_ids"], *lists["val_ids"]]
    if not ids:
        raise InputError("CAP-124", f"{DATASET}: ids is empty. List at least one image.")
    if len(ids) > MOST_IDS:
        raise InputError(
            "CAP-125",
            f"{DATASET} lists {len(ids):,} images; at most {MOST_IDS:,} are supported. Split the dataset.",
        )
    if not lists["val_ids"] and len(ids) >= 8:
        return ids, ids[::4], ids[2::4]
    return ids, lists["train_ids"], lists["val_ids"]


def _warp(metadata: dict[str, Any], name: str) -> int:
    entry = metadata.get(name)
    where = f"metadata.json: {printable(name)}"
    if not isinstance(entry, dict):
        raise InputError("CAP-126", f"{where} is missing. Every image needs a warp_id.")
    key = "time_id" if "warp_id" not in entry and "time_id" in entry else "warp_id"
    return int(number(entry, key, where))


def _reduction(folder: Path, ids: list[str], scale: float) -> int:
    """Which rgb/Nx to read: the smallest images that are still as large as wanted, else the largest there are."""
    found = sorted(
        int(m[1]) for p in folder.glob("rgb/*x") if (m := re.fullmatch(r"(\d{1,3})x", p.name)) and p.is_dir()
    )
    found = [
        n for n in found if n > 0 and inside(folder, f"rgb/{n}x/{ids[0]}.png", DATASET).is_file()
    ] or found
    if not found:
        raise InputError(
            "CAP-127",
            "The folder rgb/1x (or rgb/2x …) is missing. Put the images of the HyperNeRF dataset there.",
        )
    enough = [n for n in found if n * scale <= 1.0 + 1e-9]
    return max(enough) if enough else min(found)


def _view(folder: Path, name: str, moment: int, reduction: int) -> View:
    path = inside(folder, f"camera/{name}.json", DATASET)
    where = relative_name(path, folder)
    camera = read_json(require_file(path, folder, "every image needs its camera"), where)
    rotation = matrix(camera.get("orientation"), (3, 3), "orientation", where)
    position = matrix(camera.get("position"), (3,), "position", where)
    claimed = matrix(camera.get("image_size"), (2,), "image_size", where)
    principal = matrix(camera.get("principal_point"), (2,), "principal_point", where)
    focal = number(camera, "focal_length", where)
    aspect = number(camera, "pixel_aspect_ratio", where, 1.0, positive=True)
    radial = matrix(camera.get("radial_distortion") or [0, 0, 0], (3,), "radial_distortion", where)
    tangential = matrix(camera.get("tangential_distortion") or [0, 0], (2,), "tangential_distortion", where)
    if not np.isfinite(claimed).all() or (claimed < 1).any():
        raise InputError(
            "CAP-128", f"{where}: image_size is {claimed.tolist()}. Width and height must be at least 1."
        )
    image = inside(folder, f"rgb/{reduction}x/{name}.png", DATASET)
    image_name = relative_name(image, folder)
    size = image_size(require_file(image, folder, f"{DATASET} lists it"), image_name)
    if np.abs(np.array(size) * reduction - claimed).max() > reduction:
        raise InputError(
            "CAP-129",
            f"{image_name} has {size[0]} × {size[1]} pixels, but {where} states {claimed[0]:.0f} × "
            f"{claimed[1]:.0f} (before reduction by {reduction}). Use the images that belong to these "
            "cameras.",
        )
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ position
    x, y = size[0] / claimed[0], size[1] / claimed[1]
    K = np.array(
        [
            [focal * x, number(camera, "skew", where, 0.0) * x, principal[0] * x],
            [0, focal * aspect * y, principal[1] * y],
            [0, 0, 1.0],
        ]
    )
    params = (radial[0], radial[1], tangential[0], tangential[1], radial[2])
    try:
        lens = Distortion("opencv", tuple(float(p) for p in params))
    except InputError as error:
        raise error.at(where) from error
    return View(name, where, K, pose, size, {moment: ImageFile(image, image_name)}, lens)


def _near_far(path: Path) -> tuple[float | None, float | None]:
    if not path.is_file():
        return None, None
    scene = read_json(path, path.name)
    if scene.get("near") is None or scene.get("far") is None:
        return None, None
    scale = number(scene, "scale", path.name, 1.0, positive=True)
    return number(scene, "near", path.name) / scale, number(scene, "far", path.name) / scale
