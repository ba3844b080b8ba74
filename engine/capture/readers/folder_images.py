"""The images, masks and depth maps that a cameras.json names: a video, or a folder or pattern of images, for each camera."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.paths import inside, printable, relative_name
from ..depth_maps import DepthFile
from ..description import ViewVideo
from ..pairing import matched
from ..video_file import probe
from ..view_images import ImageFile
from .listing import Place, moments_of, number_images

Images = ViewVideo | dict[int, ImageFile]


@dataclass(frozen=True, eq=False)
class Media:
    """What one camera has."""

    images: Images
    depths: dict[int, DepthFile]


@dataclass(frozen=True, eq=False)
class FolderImages:
    """What all cameras have, by frame index; see Capture.time_unit."""

    media: list[Media]
    time_unit: str
    notes: list[str] = field(default_factory=list[str])


def read_images(
    folder: Path, cameras: Sequence[tuple[dict[str, Any], str]], unit: float, fps: float, warnings: list[str]
) -> FolderImages:
    """The images of all cameras, whose names are read together.

    Args:
        folder: The capture.
        cameras: Entries of cameras.json, and what they are called in messages.
        unit: World units per stored unit of depth.
        fps: The stated frame rate.
        warnings: Gets a sentence where depth maps are left out.

    Returns:
        Images and depth maps of each camera.

    Raises:
        InputError: Names the camera whose files are missing or do not belong together.
    """
    places = {
        (i, kind): _place(folder, camera[kind], where)
        for i, (camera, where) in enumerate(cameras)
        for kind in _kinds(camera)
    }
    numbering = number_images([*places.values()], folder, fps)
    files = dict(zip(places, numbering.files, strict=True))
    is_time = bool(numbering.time_unit)
    made: list[Media] = []
    for i, (camera, where) in enumerate(cameras):
        images: Images
        if "video" in camera:
            images = _video(folder, camera, where)
        else:
            images = _images(folder, files[i, "frames"], files.get((i, "masks")), where, is_time)
        depths = files.get((i, "depths"), {})
        if isinstance(images, ViewVideo):
            depths = _of_video(depths, images, where)
        elif is_time:
            depths = _nearest(depths, images, where, warnings)
        else:
            _check_numbers(depths, images, folder, where)
        named = {n: DepthFile(path, relative_name(path, folder), unit) for n, path in depths.items()}
        made.append(Media(images, named))
    return FolderImages(made if is_time else _by_frame(made), numbering.time_unit, numbering.notes)


def _kinds(camera: dict[str, Any]) -> list[str]:
    """Which keys of a camera name a folder or pattern of images."""
    kinds = ["frames"] if "frames" in camera else []
    kinds += ["masks"] if kinds and camera.get("masks") else []
    return [*kinds, "depths"] if camera.get("depths") is not None else kinds


def _place(folder: Path, pattern: object, where: str) -> Place:
    """A folder, or a pattern with one %d."""
    path = inside(folder, pattern, where)
    if path.is_dir():
        return Place(path, None, where)
    if len(re.findall(r"%0?\d*d", path.name)) != 1:
        raise InputError(
            "CAP-119",
            f"{where}: '{printable(str(pattern))}' is neither a folder nor a pattern with one %05d. "
            "Correct the entry.",
        )
    return Place(path.parent, path.name, where)


def _video(folder: Path, camera: dict[str, Any], where: str) -> ViewVideo:
    path = inside(folder, camera["video"], where)
    name = relative_name(path, folder)
    facts = probe(path, name)
    if camera.get("mask") is None:
        return ViewVideo(path, name, facts)
    mask = inside(folder, camera["mask"], where)
    mask_name = relative_name(mask, folder)
    mask_facts = probe(mask, mask_name)
    if mask_facts.size[0] * facts.size[1] != mask_facts.size[1] * facts.size[0]:
        raise InputError(
            "CAP-117",
            f"{mask_name} has {mask_facts.size[0]} × {mask_facts.size[1]} pixels, but its video has "
            f"{facts.size[0]} × {facts.size[1]}. A mask must have the aspect ratio of its video.",
        )
    return ViewVideo(path, name, facts, mask, mask_name, mask_facts)


def _images(
    folder: Path, files: dict[int, Path], masks: dict[int, Path] | None, where: str, is_time: bool
) -> dict[int, ImageFile]:
    """Images with their masks, by the numbers or times in their names."""
    if masks is None:
        return {n: ImageFile(path, relative_name(path, folder)) for n, path in files.items()}
    partner = matched(files, masks) if is_time else {n: n for n in masks}
    images: dict[int, ImageFile] = {}
    for n, path in files.items():
        if n not in partner:
            raise InputError(
                "CAP-118",
                f"{where}: the image {relative_name(path, folder)} has no mask. Provide a mask for every "
                "image.",
            )
        mask = masks[partner[n]]
        images[n] = ImageFile(path, relative_name(path, folder), mask, relative_name(mask, folder))
    return images


def _of_video(files: dict[int, Path], video: ViewVideo, where: str) -> dict[int, Path]:
    """Depth maps of a video by its frames: one for each, in ascending order."""
    if files and len(files) != video.facts.frames:
        raise InputError(
            "CAP-171",
            f"{where}: there are {len(files)} depth maps, but {video.name} has {video.facts.frames} frames. Provide a "
            "depth map for every frame.",
        )
    return dict(enumerate(files[number] for number in sorted(files)))


def _nearest(
    files: dict[int, Path], images: Mapping[int, ImageFile], where: str, warnings: list[str]
) -> dict[int, Path]:
    """Depth maps by the images that were taken at nearly the same time."""
    found = {n: files[m] for n, m in matched(images, files).items()}
    left = len(files) - len(set(found.values()))
    if left:
        warnings.append(
            f"{where}: {left} of {len(files)} depth maps are not near an image in time; they are not used."
        )
    return found


def _check_numbers(files: dict[int, Path], images: Mapping[int, ImageFile], folder: Path, where: str) -> None:
    if unmatched := sorted(files.keys() - images.keys()):
        raise InputError(
            "CAP-172",
            f"{where}: {len(unmatched)} depth maps have no image of the same number, such as "
            f"{relative_name(files[unmatched[0]], folder)}. Give each the number of its image, or remove it.",
        )


def _by_frame(media: list[Media]) -> list[Media]:
    """Numbers in file names become frame indices: the numbers of all cameras, in order."""
    frame = moments_of(m.images for m in media if isinstance(m.images, dict))
    return [
        m
        if isinstance(m.images, ViewVideo)
        else Media(
            {frame[n]: image for n, image in m.images.items()}, {frame[n]: d for n, d in m.depths.items()}
        )
        for m in media
    ]
