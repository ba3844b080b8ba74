"""COLMAP models with a folder of frames or a video for each camera ("MultipleView" of 4DGaussians), or with every image.

The model may have one image per camera (`image3.jpg` or `cam03.png` belongs to the folder or video cam03), or the frames
themselves: `colmap_frames` says which camera and which frame they are. Distorted camera models are straightened as images
are read.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ...files.paths import inside, printable
from ..description import Capture
from ..options import LoadOptions
from ..point_cloud import optional_points
from .colmap_media import find_contents, image_root
from .colmap_model import is_model, read_model
from .colmap_views import arranged_views, match_rig, rig_views

MODEL_FOLDERS = ("sparse/0", "sparse", "sparse_", "colmap/sparse/0", "dense/sparse", "sparse_txt")
POINTS = ("points3D_multipleview.ply", "points3D_downsample2.ply")


def recognizes(folder: Path) -> bool:
    return any(is_model(folder / name) for name in MODEL_FOLDERS)


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`. InputError names the model file or image at fault."""
    model_folder = next((folder / n for n in MODEL_FOLDERS if is_model(folder / n)), None)
    if model_folder is None:
        raise InputError(
            "CAP-078",
            f"{printable(folder.name)} does not contain a COLMAP model. Expected cameras.bin or "
            f"cameras.txt in one of {', '.join(MODEL_FOLDERS)}.",
        )
    model = read_model(model_folder, folder)
    for image in model.images:
        inside(folder, image.name, image.where.rsplit(": ", 1)[0])
    made = Capture(folder=folder, layout="colmap", views=[], files=model.files)
    contents = find_contents(folder)
    root = image_root(folder, model.images)
    rig = match_rig(model, contents, root)
    if rig:
        made.views = rig_views(made, model, rig, contents)
    else:
        made.views = arranged_views(made, model, root)
    made.points, made.point_colors = model.points, model.point_colors
    extra, extra_colors = optional_points(folder, POINTS, made.warnings)
    if extra is not None and (made.points is None or len(extra) >= len(made.points)):
        made.points, made.point_colors = extra, extra_colors
    return made
