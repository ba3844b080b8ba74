"""`cameras.json` as 3D Gaussian Splatting and GaussianAvatars write it: a list with one entry for each training image.

`position` is the camera's center, `rotation` camera-to-world in OpenCV axes, fx and fy in pixels. Principal points are not
stored; they are taken to be the image's middle, as the reference code renders.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...files.atomic import write_atomically
from ...files.jsonfile import LARGEST, json_text, parse_json
from ...files.paths import open_regular, printable
from ...scene import Cameras

CAMERAS = "cameras.json"
MOST_ENTRIES = 200_000
LARGEST_SIDE = 1 << 16  # pixels
ROTATION_ERROR = 1e-3


def read_avatar_cameras(folder: Path) -> Cameras:
    """The distinct cameras of the list, each once. Raises InputError naming the entry that cannot be used."""
    cameras: dict[tuple[Any, ...], tuple[str, Tensor, Tensor, tuple[int, int]]] = {}
    names: set[str] = set()
    for number, entry in enumerate(_entries(folder / CAMERAS)):
        try:
            name, pose, K, size = _camera(entry)
        except (TypeError, ValueError, KeyError, OverflowError, RuntimeError, AttributeError) as error:
            raise InputError(
                "IO-059",
                f"{CAMERAS}: entry {number} is not a camera with width, height, position, rotation, fx and fy. Export it "
                "again, or remove the file to look from a ring of cameras.",
            ) from error
        key = (size, *(round(value, 5) for value in (*pose.flatten().tolist(), *K.flatten().tolist())))
        if key in cameras:
            continue
        # images are named frame_camera
        label = name.rpartition("_")[2] or name
        chosen = label if label not in names else name if name not in names else f"{name} {number}"
        names.add(chosen)
        cameras[key] = (chosen, pose, K, size)
    listed = list(cameras.values())
    return Cameras(
        torch.stack([pose for _, pose, _, _ in listed]),
        torch.stack([K for _, _, K, _ in listed]),
        tuple(size for *_, size in listed),
        tuple(name for name, *_ in listed),
    )


def _entries(path: Path) -> list[Any]:
    try:
        with open_regular(path) as file:
            found = parse_json(file.read(min(os.fstat(file.fileno()).st_size, LARGEST) + 1))
    except (OSError, ValueError) as error:
        raise InputError("IO-060", f"{path.name} cannot be read as JSON; copy or export it again.") from error
    if not isinstance(found, list) or not 0 < len(found) <= MOST_ENTRIES:  # pyright: ignore[reportUnknownArgumentType]
        raise InputError(
            "IO-061",
            f"{path.name} is not a list of 1 to {MOST_ENTRIES:,} cameras. Export it again, or remove it to look from a ring "
            "of cameras.",
        )
    return found  # pyright: ignore[reportUnknownVariableType]


def _camera(entry: Any) -> tuple[str, Tensor, Tensor, tuple[int, int]]:
    """Name, world_to_camera, K and size of one entry; ValueError and others where something is wrong with it."""
    width, height = int(entry["width"]), int(entry["height"])
    fx, fy = float(entry["fx"]), float(entry["fy"])
    rotation = torch.tensor(entry["rotation"], dtype=torch.float64).reshape(3, 3)
    position = torch.tensor(entry["position"], dtype=torch.float64).reshape(3)
    numbers = torch.cat([rotation.flatten(), position, torch.tensor([fx, fy], dtype=torch.float64)])
    error = (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
    fits = bool(torch.isfinite(numbers).all()) and float(error) < ROTATION_ERROR
    if not fits or float(rotation.det()) < 0 or min(fx, fy) <= 0 or float(position.abs().max()) > 1e9:
        raise ValueError("a pose or focal length that is not usable")
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise ValueError("a size that is not usable")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ position
    K = torch.tensor([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]], dtype=torch.float64)
    return printable(str(entry.get("img_name", ""))[:200]) or "camera", pose, K, (width, height)


def write_avatar_cameras(rig: Cameras, folder: Path) -> Path:
    """Write `rig` as cameras.json; principal points are lost. Raises InputError where that is not possible."""
    poses = rig.camera_to_world.double()
    entries = [
        {
            "id": i,
            "img_name": f"00000_{name}",
            "width": width,
            "height": height,
            "position": poses[i, :3, 3].tolist(),
            "rotation": poses[i, :3, :3].tolist(),
            "fy": float(rig.K[i, 1, 1]),
            "fx": float(rig.K[i, 0, 0]),
        }
        for i, (name, (width, height)) in enumerate(zip(rig.names, rig.sizes, strict=True))
    ]
    with write_atomically(folder / CAMERAS) as partial:
        partial.write_bytes(json_text(entries, allow_nan=False))
    return folder / CAMERAS
