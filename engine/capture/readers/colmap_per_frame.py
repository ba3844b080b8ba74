"""One COLMAP model for each frame: folders `colmap_0`, `colmap_1` …, each with a model of the same cameras and its images.

Models that were made one by one have no common coordinates, so the cameras are compared after a similarity transform
(Umeyama 1991, with the rotation from the cameras' own) and those of the largest model are used for all frames.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...files.folders import natural_key, visible
from ...files.paths import inside, printable
from .colmap_media import image_root
from .colmap_model import ColmapModel, read_model
from .colmap_places import Place, largest, places
from .colmap_values import Array, ColmapImage, centers_of

# How far cameras may stand apart, as a share of the rig's size, and in degrees, to be the same ones.
NEAR, ALIGNED = 0.02, 1.0


@dataclass(frozen=True, eq=False)
class _FrameModel:
    folder: Path
    model: ColmapModel
    images: dict[str, ColmapImage]  # by their name below the image folder
    root: str  # the image folder, below the capture


def frame_folders(folder: Path) -> list[Path]:
    """Folders that differ in the number at their end and hold a model each, at least two."""
    numbered = [p for p in visible(folder) if p.is_dir() and re.search(r"\d$", p.name) and places(p)]
    prefixes = Counter(re.sub(r"\d+$", "", p.name) for p in numbered)
    if not prefixes:
        return []
    prefix, count = prefixes.most_common(1)[0]
    if count < 2:
        return []
    return sorted(
        (p for p in numbered if re.sub(r"\d+$", "", p.name) == prefix), key=lambda p: natural_key(p.name)
    )


def read_frames(folder: Path, folders: list[Path], warnings: list[str]) -> ColmapModel:
    """One model of all frames, whose images are named by their paths below the capture.

    InputError: the models do not share cameras, or the cameras moved.
    """
    read = [made for made in (_read(folder, f, warnings) for f in folders) if made is not None]
    if not read:
        raise InputError(
            "CAP-200",
            f"{printable(folder.name)}: none of the {len(folders)} models from {printable(folders[0].name)} on has "
            "its images next to it. Put them into a folder images beside each model.",
        )
    base = max(read, key=lambda made: len(made.images))
    cameras = dict(base.images)
    worst = 0.0
    images: list[ColmapImage] = []
    files: list[Path] = []
    lenses = dict(base.model.cameras)
    for made in read:
        moved, apart = _aligned(made, cameras)
        worst = max(worst, apart)
        for name, image in moved.items():
            if name not in cameras:
                # a camera that the largest model lacks
                key = max(lenses) + 1
                lenses[key] = made.model.cameras[image.camera_id]
                cameras[name] = replace(image, camera_id=key)
            path = f"{made.root}/{name}" if made.root else name
            images.append(replace(cameras[name], name=path, where=image.where, key=len(images)))
        files += made.model.files
    if worst > 1e-6:
        warnings.append(
            f"Each of the {len(read)} frames has its own COLMAP model; the cameras of {printable(base.folder.name)} "
            f"are used for all, and the others agree within {100 * worst:.2g} % of the rig's size."
        )
    return replace(base.model, cameras=lenses, images=images, files=files, frames={})


def _read(capture: Path, folder: Path, warnings: list[str]) -> _FrameModel | None:
    place: Place = largest(places(folder)[0], folder, warnings)
    model = read_model(place.model, capture)
    for image in model.images:
        inside(folder, image.name, image.where.rsplit(": ", 1)[0])
    root = image_root(folder, model.images, place.roots)
    if root is None:
        warnings.append(
            f"{printable(folder.name)} has a COLMAP model but none of its images; it is not used."
        )
        return None
    images = {i.name: i for i in sorted(model.images, key=lambda i: i.name)}
    return _FrameModel(folder, model, images, root.relative_to(capture).as_posix())


def _aligned(made: _FrameModel, cameras: dict[str, ColmapImage]) -> tuple[dict[str, ColmapImage], float]:
    """The images of a model in the coordinates of `cameras`, and how far those in both are apart (share of the rig)."""
    shared = [name for name in made.images if name in cameras]
    if len(shared) < 2:
        raise InputError(
            "CAP-201",
            f"The models of single frames need the same image names in each; {printable(made.folder.name)} has "
            f"{len(shared)} of those before it. Name the images after their cameras, such as cam00.png.",
        )
    wanted = np.stack([cameras[n].world_to_camera for n in shared])
    given = np.stack([made.images[n].world_to_camera for n in shared])
    if np.abs(wanted - given).max() < 1e-9:
        return made.images, 0.0
    rotation, scale, shift = _similarity(given, wanted)
    moved = {
        n: replace(i, world_to_camera=_moved(i.world_to_camera, rotation, scale, shift))
        for n, i in made.images.items()
    }
    found = np.stack([moved[n].world_to_camera for n in shared])
    reach = float(np.ptp(centers_of(wanted), axis=0).max())
    apart = float(np.linalg.norm(centers_of(found) - centers_of(wanted), axis=1).max()) / max(reach, 1e-12)
    turned = found[:, :3, :3] @ wanted[:, :3, :3].transpose(0, 2, 1)
    cosine = (np.trace(turned, axis1=1, axis2=2) - 1) / 2
    angle = float(np.degrees(np.arccos(cosine.clip(-1, 1))).max())
    if apart > NEAR or angle > ALIGNED:
        raise InputError(
            "CAP-202",
            f"The cameras of {printable(made.folder.name)} differ from those of the other frames ({100 * apart:.2g} % of "
            f"the rig's size, {angle:.2g}°), and separate models have no common coordinates. Run COLMAP once on all frames.",
        )
    return moved, apart


def _similarity(given: Array, wanted: Array) -> tuple[Array, float, Array]:
    """Rotation, scale and shift that take the world of poses `given` [N, 4, 4] to that of `wanted`."""
    turns = np.einsum("nji,njk->ik", wanted[:, :3, :3], given[:, :3, :3])
    u, _, v = np.linalg.svd(turns)
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
    source, target = centers_of(given), centers_of(wanted)
    flat = (source - source.mean(axis=0)) @ rotation.T
    scale = float((flat * (target - target.mean(axis=0))).sum() / max((flat**2).sum(), 1e-24))
    return rotation, scale, target.mean(axis=0) - scale * rotation @ source.mean(axis=0)


def _moved(pose: Array, rotation: Array, scale: float, shift: Array) -> Array:
    """world_to_camera [4, 4] after the world was turned, scaled and shifted."""
    center = scale * rotation @ centers_of(pose[None])[0] + shift
    made = np.eye(4)
    made[:3, :3] = pose[:3, :3] @ rotation.T
    made[:3, 3] = -made[:3, :3] @ center
    return made
