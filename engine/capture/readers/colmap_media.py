"""Where the images and videos of a COLMAP model are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...errors import InputError
from ...files.folders import visible, walk
from ...files.images import SUFFIXES as IMAGES
from ...files.paths import inside
from ..video_file import SUFFIXES as VIDEOS
from .colmap_values import ColmapImage
from .listing import last_number

IMAGE_FOLDERS = ("", "images", "videos", "frames", "input")
ROOTS = ("images", "", "input", "frames")


@dataclass
class Contents:
    """Where images of cameras may be: folders with image files and videos, by name and by the number in it."""

    folders: dict[str, Path] = field(default_factory=dict[str, Path])
    videos: dict[str, Path] = field(default_factory=dict[str, Path])

    def find(self, image: ColmapImage) -> str | None:
        """The folder or video that belongs to `image`: a part of its name, or the only one with its number."""
        names = [*self.folders, *(v for v in self.videos if v not in self.folders)]
        path = PurePosixPath(image.name.replace("\\", "/"))
        words = [*path.parts[:-1], path.stem, *re.split(r"[_\-. ]+", path.stem)]
        exact = next((w for w in words if w in names), None)
        if exact is not None:
            return exact
        number = last_number(camera_part(image))
        alike = [n for n in names if number is not None and last_number(n) == number]
        return alike[0] if len(alike) == 1 else None


def camera_part(image: ColmapImage) -> str:
    """What names the camera where a model has one image of each: the folder of the image, else its own name."""
    path = PurePosixPath(image.name.replace("\\", "/"))
    folders = [p for p in path.parts[:-1] if p not in (".", "images")]
    return folders[0] if folders else path.stem


def find_contents(folder: Path) -> Contents:
    """Folders of frames and videos directly in `folder` or in one of its usual folders."""
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


def image_root(folder: Path, images: Sequence[ColmapImage], roots: Sequence[str] = ROOTS) -> Path | None:
    """The folder below which most of the model's images lie, the first of equals; None without any."""
    counts = {root: sum((folder / root / image.name).is_file() for image in images) for root in roots}
    best = max(roots, key=lambda root: counts[root])
    return folder / best if counts[best] else None


def image_path(folder: Path, root: Path | None, image: ColmapImage, roots: Sequence[str] = ROOTS) -> Path:
    """The file of `image` below `root`. InputError if there is none."""
    base = folder if root is None else root
    path = inside(folder, (base / image.name).relative_to(folder).as_posix(), image.where)
    if root is None or not path.is_file():
        where = ", ".join(r or "." for r in roots) if root is None else root.name
        raise InputError(
            "CAP-081",
            f"{image.where}: the image is missing (searched in {where}). Restore it or export the model again.",
        )
    return path


def other_images(folder: Path, root: Path, images: Sequence[ColmapImage]) -> list[str]:
    """Names below `root` of image files that the model does not have.

    Directly in the capture, only folders that hold images of the model are searched.
    """
    known = {image.name.replace("\\", "/") for image in images}
    if root != folder:
        files = list(walk(root))
    else:
        holders = {(root / name).parent for name in known}
        files = [file for holder in sorted(holders) for file in visible(holder) if file.is_file()]
    names = (file.relative_to(root).as_posix() for file in files if file.suffix.lower() in IMAGES)
    return sorted(name for name in names if name not in known)
