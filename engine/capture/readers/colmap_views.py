"""The views of a COLMAP model: cameras of a rig with folders or videos, or the model's own images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import InputError
from ...files.paths import inside, printable, relative_name, require_file
from ...wording import listed
from ..coordinates import moved
from ..description import Capture, View, ViewVideo
from ..video_file import probe
from ..view_images import ImageFile
from .colmap_frames import Arrangement, arrange
from .colmap_media import ROOTS, Contents, camera_part, image_path, other_images
from .colmap_model import ColmapModel
from .colmap_values import Array, ColmapCamera, ColmapImage
from .listing import Place, last_number, number_images


def match_rig(model: ColmapModel, contents: Contents, root: Path | None) -> dict[str, ColmapImage] | None:
    """Folder or video → its camera, where the model has one image (or pose) of each; None for the images themselves."""
    found: dict[str, ColmapImage] = {}
    for image in sorted(model.images, key=lambda i: i.name):
        name = contents.find(image)
        if name is None:
            continue
        holder = contents.folders.get(name)
        if holder is not None and root is not None and (root / image.name).is_relative_to(holder):
            # frames of the folder itself
            return None
        if name in found and not _is_still(model, [found[name], image]):
            return None
        found.setdefault(name, image)
    return found or None


def rig_views(
    capture: Capture, model: ColmapModel, rig: dict[str, ColmapImage], contents: Contents
) -> list[View]:
    """A view for each folder or video that `match_rig` found."""
    folder = capture.folder
    lost = [i for i in model.images if contents.find(i) is None]
    if lost:
        raise InputError(
            "CAP-079",
            f"{lost[0].where}: no folder or video matches this image. Add '{printable(camera_part(lost[0]))}' "
            "as a folder of frames or a video.",
        )
    holders = [name for name in rig if name in contents.folders]
    numbering = number_images([Place(contents.folders[name]) for name in holders], folder)
    numbered = dict(zip(holders, numbering.images(folder), strict=True))
    capture.time_unit = numbering.time_unit
    views: list[View] = []
    for name, image in sorted(rig.items(), key=lambda item: (last_number(item[0]) or 0, item[0])):
        images: ViewVideo | dict[int, ImageFile]
        if name in numbered:
            images = numbered[name]
        else:
            path = require_file(contents.videos[name], folder, "copy it again")
            images = ViewVideo(path, relative_name(path, folder), probe(path, relative_name(path, folder)))
        views.append(_view(model, image, name, images))
    kinds = {isinstance(v.images, ViewVideo) for v in views}
    if len(kinds) > 1:
        raise InputError(
            "CAP-080",
            "Some cameras have a folder of frames and others a video. Use the same kind for all cameras.",
        )
    _warn_without_pose(capture, _without_camera(rig, contents))
    kind = "video" if kinds == {True} else "folder of frames"
    capture.notes.append(f"COLMAP images: {len(views)} cameras, each with the {kind} of its name.")
    capture.notes += numbering.notes
    return views


def _without_camera(rig: dict[str, ColmapImage], contents: Contents) -> list[str]:
    """Videos that the model has no camera for, or folders named like those of its cameras."""
    if not any(name in contents.folders for name in rig):
        return [name for name in contents.videos if name not in rig]
    alike = {letters(name) for name in rig}
    return [name for name in contents.folders if name not in rig and letters(name) in alike]


def letters(name: str) -> str:
    """A name without its numbers: `cam` for `cam03`."""
    return re.sub(r"\d+", "", name)


def arranged_views(
    capture: Capture, model: ColmapModel, root: Path | None, roots: Sequence[str] = ROOTS
) -> list[View]:
    """A view for each camera that stands still, with all its frames; of a moving camera, one for each image."""
    folder = capture.folder
    others = other_images(folder, root, model.images) if root is not None else []
    arranged = arrange(model, others)
    paths = [image_path(folder, root, image, roots) for image in model.images]
    if root is not None:
        paths += [inside(folder, (root / n).relative_to(folder).as_posix(), n) for n in others]
    files = [ImageFile(path, relative_name(path, folder)) for path in paths]
    count = len(model.images)
    views: list[View] = []
    unposed: list[str] = []
    used: set[int] = set()
    for camera, label in enumerate(arranged.labels):
        members = np.flatnonzero(arranged.cameras == camera).tolist()
        images = [(i, model.images[i]) for i in members if i < count]
        if not images:
            unposed.append(label)
        elif _is_still(model, [image for _, image in images]):
            taken = {int(arranged.frames[i]): files[i] for i in members}
            views.append(_view(model, images[0][1], label, taken))
            used.update(members)
        else:
            for i, image in sorted(images, key=lambda item: item[1].name):
                name = PurePosixPath(image.name).with_suffix("").as_posix()
                views.append(_view(model, image, name, {int(arranged.frames[i]): files[i]}))
                used.add(i)
    _close_gaps(views, arranged.times)
    capture.time_unit = arranged.time_unit
    _report(capture, arranged, used, [*(i.name for i in model.images), *others], unposed)
    return views


def _report(
    capture: Capture, arranged: Arrangement, used: set[int], names: list[str], unposed: list[str]
) -> None:
    """Say how the images were read and which of them are not used."""
    members = sorted(used)
    kept = Arrangement(arranged.cameras[members], arranged.frames[members], arranged.labels, arranged.origin)
    capture.notes.append(kept.sentence())
    if arranged.doubt:
        capture.warnings.append(f"{kept.sentence()} {arranged.doubt}")
    _warn_without_pose(capture, unposed)
    idle = [n for i, n in enumerate(names) if i not in used and not _belongs(arranged, i, unposed)]
    if idle:
        capture.warnings.append(
            f"{len(idle)} image files are not in the COLMAP model and are not used: {listed(idle, 4)}."
        )


def _warn_without_pose(capture: Capture, names: list[str]) -> None:
    if names:
        capture.warnings.append(
            f"COLMAP has no pose for {listed(names, 40)}; {'it is' if len(names) == 1 else 'they are'} not used. "
            "Add images that overlap with the others and run COLMAP again."
        )


def _belongs(arranged: Arrangement, index: int, unposed: list[str]) -> bool:
    camera = int(arranged.cameras[index])
    return camera >= 0 and arranged.labels[camera] in unposed


def _close_gaps(views: list[View], times: Array | None) -> None:
    """Number frames without those that no view has; or by nanoseconds, where they are known."""
    frames = sorted({m for view in views if isinstance(view.images, dict) for m in view.images})
    at = {frame: i if times is None else int(times[frame]) for i, frame in enumerate(frames)}
    for view in views:
        if isinstance(view.images, dict):
            images = {at[m]: file for m, file in view.images.items()}
            view.images.clear()
            view.images.update(images)


def _view(
    model: ColmapModel, image: ColmapImage, name: str, images: ViewVideo | dict[int, ImageFile]
) -> View:
    camera = model.cameras[image.camera_id]
    where = f"{camera.where} ({printable(image.name)})"
    return View(
        printable(name), where, camera.K, image.world_to_camera, camera.size, images, camera.distortion
    )


def _is_still(model: ColmapModel, images: list[ColmapImage]) -> bool:
    """Whether all images have one pose and lens, within what bundle adjustment leaves."""
    lenses = {_lens(model.cameras[i.camera_id]) for i in images}
    poses = moved(np.stack([i.world_to_camera for i in images]), model.origin)
    apart = np.abs(poses - poses[0]).max()
    return len(lenses) == 1 and bool(apart <= 1e-3 * (1 + np.abs(poses[0, :3, 3]).max()))


def _lens(camera: ColmapCamera) -> tuple[object, ...]:
    return (camera.size, tuple(camera.K.flatten().tolist()), camera.distortion)
