"""COLMAP models with a folder of frames or a video for each camera ("MultipleView" of 4DGaussians), or one sequence.

The model may have one image per camera (`image3.jpg` or `cam03/frame_00001.jpg` belongs to the folder or video cam03) or
all frames of a moving camera. Distorted camera models are straightened as images are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import InputError
from ...files.folders import visible
from ...files.images import SUFFIXES as IMAGES
from ...files.paths import inside, printable, relative_name, require_file
from ..description import Capture, View, ViewVideo
from ..frames import ImageFile
from ..options import LoadOptions
from ..point_cloud import optional_points
from ..video_file import SUFFIXES as VIDEOS
from ..video_file import probe
from .colmap_model import ColmapModel, is_model, read_model
from .colmap_values import ColmapImage
from .listing import image_files, last_number, moments_of, numbered_images

MODEL_FOLDERS = ("sparse/0", "sparse", "sparse_", "colmap/sparse/0", "dense/sparse", "sparse_txt")
IMAGE_FOLDERS = ("", "images", "videos", "frames", "input")
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
    contents = _contents(folder)
    rig = _rig(model, contents)
    views = _rig_views(folder, model, rig, contents) if rig else _sequence_views(folder, model)
    warnings: list[str] = []
    points, colors = model.points, model.point_colors
    extra, extra_colors = optional_points(folder, POINTS, warnings)
    if extra is not None and (points is None or len(extra) >= len(points)):
        points, colors = extra, extra_colors
    return Capture(
        folder=folder,
        layout="colmap",
        views=views,
        points=points,
        point_colors=colors,
        warnings=warnings,
        files=model.files,
    )


@dataclass
class Contents:
    """Where images of cameras may be: folders with image files and videos, by name and by the number in it."""

    folders: dict[str, Path] = field(default_factory=dict[str, Path])
    videos: dict[str, Path] = field(default_factory=dict[str, Path])

    def find(self, label: str) -> str | None:
        """The name among folders and videos that belongs to `label`: itself, or the only one with its number."""
        names = [*self.folders, *(v for v in self.videos if v not in self.folders)]
        if label in names:
            return label
        number = last_number(label)
        alike = [n for n in names if number is not None and last_number(n) == number]
        return alike[0] if len(alike) == 1 else None


def _contents(folder: Path) -> Contents:
    made = Contents()
    for root in (folder / name for name in IMAGE_FOLDERS):
        if not root.is_dir():
            continue
        for path in visible(root):
            if path.is_dir() and path.name not in IMAGE_FOLDERS:
                holder = path / "images" if (path / "images").is_dir() else path
                if any(p.suffix.lower() in IMAGES for p in visible(holder)):
                    made.folders.setdefault(path.name, holder)
            elif path.suffix.lower() in VIDEOS:
                made.videos.setdefault(path.stem, path)
    return made


def _label(image: ColmapImage) -> str:
    """The camera's name: the folder an image lies in, else its own name without ending."""
    path = PurePosixPath(image.name.replace("\\", "/"))
    folders = [p for p in path.parts[:-1] if p not in (".", "images")]
    return folders[0] if folders else path.stem


def _rig(model: ColmapModel, contents: Contents) -> dict[str, ColmapImage] | None:
    """Name of the folder or video → its camera, where every camera is static; None for a moving camera."""
    found: dict[str, ColmapImage] = {}
    for image in sorted(model.images, key=lambda i: i.name):
        name = contents.find(_label(image))
        if name is None:
            continue
        if name in found:
            moved = np.abs(found[name].world_to_camera - image.world_to_camera).max()
            lens = found[name].camera_id == image.camera_id
            if moved > 1e-3 * (1 + np.abs(image.world_to_camera[:3, 3]).max()) or not lens:
                return None
            continue
        found[name] = image
    return found or None


def _rig_views(
    folder: Path, model: ColmapModel, rig: dict[str, ColmapImage], contents: Contents
) -> list[View]:
    lost = [i for i in model.images if contents.find(_label(i)) is None]
    if lost:
        raise InputError(
            "CAP-079",
            f"{lost[0].where}: no folder or video matches this image. Add '{printable(_label(lost[0]))}' "
            "as a folder of frames or a video.",
        )
    numbered = {
        name: numbered_images(contents.folders[name], folder) for name in rig if name in contents.folders
    }
    moments = moments_of(numbered.values())
    views: list[View] = []
    for name, image in sorted(rig.items(), key=lambda item: (last_number(item[0]) or 0, item[0])):
        camera = model.cameras[image.camera_id]
        images: ViewVideo | dict[int, ImageFile]
        if name in numbered:
            images = image_files(numbered[name], folder, moments)
        else:
            path = require_file(contents.videos[name], folder, "copy it again")
            images = ViewVideo(path, relative_name(path, folder), probe(path, relative_name(path, folder)))
        where = f"{camera.where} ({printable(image.name)})"
        views.append(
            View(
                printable(name),
                where,
                camera.K,
                image.world_to_camera,
                camera.size,
                images,
                camera.distortion,
            )
        )
    kinds = {isinstance(v.images, ViewVideo) for v in views}
    if len(kinds) > 1:
        raise InputError(
            "CAP-080",
            "Some cameras have a folder of frames and others a video. Use the same kind for all cameras.",
        )
    return views


def _sequence_views(folder: Path, model: ColmapModel) -> list[View]:
    """One view with a single frame per image."""
    images = sorted(model.images, key=lambda i: i.name)
    views: list[View] = []
    for image, moment in zip(images, _moments(images), strict=True):
        path = _sequence_file(folder, image)
        camera = model.cameras[image.camera_id]
        views.append(
            View(
                printable(PurePosixPath(image.name).with_suffix("").as_posix()),
                f"{camera.where} ({printable(image.name)})",
                camera.K,
                image.world_to_camera,
                camera.size,
                {moment: ImageFile(path, relative_name(path, folder))},
                camera.distortion,
            )
        )
    return views


def _moments(images: list[ColmapImage]) -> list[int]:
    """The moment of each image: from the frame number in its name, or else its place in the list."""
    numbers = [last_number(PurePosixPath(i.name).stem) for i in images]
    several = len({_label(i) for i in images if "/" in i.name}) > 1
    if None in numbers or (not several and len(set(numbers)) < len(numbers)):
        return list(range(len(images)))
    moment = {n: i for i, n in enumerate(sorted({n for n in numbers if n is not None}))}
    return [moment[n] for n in numbers if n is not None]


def _sequence_file(folder: Path, image: ColmapImage) -> Path:
    """The file of `image`, in the first of the usual folders that has it."""
    roots = [folder / name for name in ("images", "", "input", "frames")]
    candidates = [
        inside(folder, (root / image.name).relative_to(folder).as_posix(), image.where) for root in roots
    ]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise InputError(
            "CAP-081",
            f"{image.where}: the image is missing (searched in "
            f"{', '.join(r.name or '.' for r in roots)}). Restore it or export the model again.",
        )
    return path
