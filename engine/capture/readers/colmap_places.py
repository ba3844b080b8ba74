"""Where COLMAP models lie in a capture, and which of several is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...files.folders import visible
from ...files.paths import printable, relative_name
from .colmap_media import ROOTS
from .colmap_model import image_count, is_model

# Folders of models, or of workspaces with undistorted images (COLMAP's image_undistorter writes those).
SPARSE, DENSE = ("sparse", "sparse_", "colmap/sparse"), ("dense", "colmap/dense")
EXPECTED = (
    "sparse/0",
    "sparse",
    "sparse_",
    "colmap/sparse/0",
    "dense/sparse",
    "dense/0/sparse",
    "sparse_txt",
)


@dataclass(frozen=True)
class Place:
    """A model's folder, and below the capture the folders where its images may be."""

    model: Path
    roots: tuple[str, ...] = ROOTS
    is_undistorted: bool = False


def places(folder: Path) -> list[list[Place]]:
    """Models in `folder`, in the order of preference; those of one list were made from the same images."""
    groups: list[list[Place]] = []
    for name in SPARSE:
        groups.append([Place(path) for path in _models_in(folder / name)])
    for name in DENSE:
        group: list[Place] = []
        for workspace in [folder / name, *_numbered(folder / name)]:
            roots = ((workspace / "images").relative_to(folder).as_posix(), *ROOTS)
            # a model in dense/0 itself belongs to that folder's images, too
            found = [*_models_in(workspace / "sparse"), *([workspace] if is_model(workspace) else [])]
            group += [Place(path, roots, is_undistorted=True) for path in found]
        groups.append(group)
    groups.append([Place(path) for path in _models_in(folder / "sparse_txt")])
    return [group for group in groups if group]


def largest(group: Sequence[Place], capture: Path, warnings: list[str]) -> Place:
    """The model with the most images, the first of equals; a warning names the others."""
    if len(group) == 1:
        return group[0]
    counts = [_count(place, capture) for place in group]
    best = max(range(len(group)), key=lambda i: counts[i])
    listed = [
        f"{relative_name(place.model, capture)} ({count} images)"
        for i, (place, count) in enumerate(zip(group, counts, strict=True))
        if i != best
    ]
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    warnings.append(
        f"COLMAP made {len(group)} models, which have no common coordinates. The largest is used, "
        f"{relative_name(group[best].model, capture)} ({counts[best]} images), without "
        f"{', '.join(listed[:12])}{more}. Add images that connect them and run COLMAP again."
    )
    return group[best]


def missing_model(folder: Path) -> InputError:
    return InputError(
        "CAP-078",
        f"{printable(folder.name)} does not contain a COLMAP model. Expected cameras.bin or "
        f"cameras.txt in one of {', '.join(EXPECTED)}.",
    )


def _models_in(folder: Path) -> list[Path]:
    return [path for path in [*_numbered(folder), folder] if is_model(path)]


def _numbered(folder: Path) -> list[Path]:
    """Subfolders with a number as name, ascending."""
    found = [path for path in visible(folder) if path.name.isdecimal() and len(path.name) < 10]
    return sorted(found, key=lambda path: int(path.name))


def _count(place: Place, capture: Path) -> int:
    try:
        return image_count(place.model, capture)
    except InputError:
        return 0
