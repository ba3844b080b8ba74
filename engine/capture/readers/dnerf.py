"""D-NeRF (Pumarola et al. 2021): Blender's transforms_{train,val,test}.json, one RGBA image and camera per sample."""

from __future__ import annotations

from pathlib import Path

from ...files.jsonfile import read_json
from ...files.paths import require_file
from ..description import Capture
from ..options import LoadOptions
from ..point_cloud import optional_points
from .transforms import capture_of, shots

TRAIN = "transforms_train.json"
SPLITS = {"train": TRAIN, "test": "transforms_test.json", "val": "transforms_val.json"}


def recognizes(folder: Path) -> bool:
    return (folder / TRAIN).exists()


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`: training images first, then those of test and val, each a view of one frame.

    Where samples carry camera labels, a camera that stays is one view.
    """
    require_file(folder / TRAIN, folder, "it contains the training cameras of a D-NeRF dataset")
    files = {split: folder / name for split, name in SPLITS.items() if (folder / name).exists()}
    found = [
        shot
        for split, path in files.items()
        for shot in shots(
            folder, read_json(require_file(path, folder, "export it again"), path.name), path.name, split
        )
    ]
    capture = capture_of(found, folder, "dnerf", TRAIN, one_view_each=not all(s.label for s in found))
    capture.background = (1.0, 1.0, 1.0)
    capture.files = list(files.values())
    capture.points, capture.point_colors = optional_points(
        folder, ("fused.ply", "points3d.ply", "points3D.ply"), capture.warnings
    )
    return capture
