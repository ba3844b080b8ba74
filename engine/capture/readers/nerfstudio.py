"""nerfstudio / instant-ngp: transforms.json with times, several cameras, per-frame lenses and masks, in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.jsonfile import read_json
from ...files.paths import inside, relative_name, require_file
from ..description import Capture
from ..options import LoadOptions
from ..point_cloud import optional_points
from .transforms import Shot, capture_of, shots

FILE = "transforms.json"


def recognizes(folder: Path) -> bool:
    return (folder / FILE).exists()


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`; a static camera is one view, a moving camera one view per image.

    `val_filenames` and `test_filenames` are held out. InputError names the frame at fault.
    """
    path = require_file(folder / FILE, folder, "it contains the cameras of a nerfstudio dataset")
    data = read_json(path, FILE)
    found = _split(shots(folder, data, FILE), data, folder)
    capture = capture_of(found, folder, "nerfstudio", FILE, one_view_each=False)
    candidates = ("points.ply", "sparse_pc.ply", "points3D.ply")
    if data.get("ply_file_path") is not None:
        points = inside(folder, data["ply_file_path"], FILE)
        if not points.is_file():
            capture.warnings.append(
                f"{FILE} lists the points {relative_name(points, folder)}, but that file is missing."
            )
        candidates = (points.relative_to(folder).as_posix(), *candidates)
    capture.points, capture.point_colors = optional_points(folder, candidates, capture.warnings)
    capture.behind_alpha = (1.0, 1.0, 1.0)
    capture.files = [path]
    return capture


def _split(found: list[Shot], data: dict[str, Any], folder: Path) -> list[Shot]:
    """Frames named by val_filenames or test_filenames, and not for training, are held out."""
    lists: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        names = data.get(f"{split}_filenames") or []
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise InputError(
                "CAP-132", f"{FILE}: {split}_filenames must be a list of file names. Correct the entry."
            )
        lists[split] = {Path(n).as_posix() for n in names}
    held = (lists["val"] | lists["test"]) - lists["train"]
    return [replace(s, split="test") if s.image.name in held else s for s in found]
