"""COLMAP models with a folder of frames or a video for each camera ("MultipleView" of 4DGaussians), or with every image.

The model may have one image per camera (`image3.jpg` or `cam03.png` belongs to the folder or video cam03), or the frames
themselves: `colmap_frames` says which camera and which frame they are. Each frame may also have a model of its own.
Distorted camera models are straightened as images are read.
"""

from __future__ import annotations

from pathlib import Path

from ...files.paths import inside, relative_name
from ..description import Capture
from ..options import LoadOptions
from ..point_cloud import optional_points
from .colmap_media import Contents, find_contents, image_root
from .colmap_model import ColmapModel, read_model
from .colmap_per_frame import frame_folders, read_frames
from .colmap_places import Place, largest, missing_model, places
from .colmap_views import arranged_views, match_rig, rig_views

POINTS = ("points3D_multipleview.ply", "points3D_downsample2.ply")


def recognizes(folder: Path) -> bool:
    return bool(places(folder) or frame_folders(folder))


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`. InputError names the model file or image at fault."""
    made = Capture(folder=folder, layout="colmap", views=[])
    groups = places(folder)
    folders = [] if groups else frame_folders(folder)
    if not groups and not folders:
        raise missing_model(folder)
    if folders:
        model = read_frames(folder, folders, made.warnings)
        made.views = arranged_views(made, model, folder)
    else:
        contents = find_contents(folder)
        place = _place(folder, groups, contents, made.warnings)
        model = _model(place, folder)
        root = image_root(folder, model.images, place.roots)
        rig = match_rig(model, contents, root)
        if rig:
            made.views = rig_views(made, model, rig, contents)
            _warn_about_distortion(made, place)
        else:
            made.views = arranged_views(made, model, root, place.roots)
    made.files = model.files
    made.points, made.point_colors = model.points, model.point_colors
    extra, extra_colors = optional_points(folder, POINTS, made.warnings)
    if extra is not None and (made.points is None or len(extra) >= len(made.points)):
        made.points, made.point_colors = extra, extra_colors
    return made


def _place(folder: Path, groups: list[list[Place]], contents: Contents, warnings: list[str]) -> Place:
    """The largest model of the first group that has images or videos; else of the first group."""
    for group in groups if len(groups) > 1 else []:
        said: list[str] = []
        place = largest(group, folder, said)
        images = _model(place, folder).images
        if image_root(folder, images, place.roots) is not None or any(contents.find(i) for i in images):
            warnings += said
            return place
    return largest(groups[0], folder, warnings)


def _model(place: Place, folder: Path) -> ColmapModel:
    model = read_model(place.model, folder)
    for image in model.images:
        inside(folder, image.name, image.where.rsplit(": ", 1)[0])
    return model


def _warn_about_distortion(capture: Capture, place: Place) -> None:
    if place.is_undistorted:
        name = relative_name(place.model, capture.folder)
        capture.warnings.append(
            f"{name} describes undistorted images; the frames must be undistorted alike. Use the model in "
            "sparse with original videos."
        )
