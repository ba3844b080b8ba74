"""Which camera took each image of a COLMAP model and which images show one frame: from its rigs, else from the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from ...errors import InputError
from ...files.folders import natural_key
from ...wording import shown
from ..pairing import pair
from .colmap_model import ColmapModel
from .colmap_names import Reading, readings, same_division, short_labels
from .colmap_values import Array, ColmapImage
from .name_times import read_times

NAMES = "image names"


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Images as cameras × frames."""

    cameras: Array  # [N] camera of each name
    frames: Array  # [N] frame of each name, ascending in time
    labels: tuple[str, ...]  # of the cameras
    origin: str  # what decided: frames.bin, names
    doubt: str = ""  # a warning, where another reading fits nearly as well
    times: Array | None = None  # [F] nanoseconds of each frame, where the names are times
    time_unit: str = ""  # how they were read, in words

    def sentence(self) -> str:
        """One line about how the images were read."""
        cameras, frames = len(np.unique(self.cameras)), len(np.unique(self.frames))
        return (
            f"COLMAP images: {cameras} {'camera' if cameras == 1 else 'cameras'} × {frames} "
            f"{'frame' if frames == 1 else 'frames'}, by {self.origin}."
        )


def arrange(model: ColmapModel, others: Sequence[str]) -> Arrangement:
    """Cameras and frames of the model's images and, where the names tell, of the image files `others` as well.

    Frames of a rig decide; where there is none, or several rigs, the names do. Numbers cover the model's images in their
    order, then `others`; -1 where a file belongs to none. Raises InputError where two images are one camera's at one frame.
    """
    found = _arranged(model, others)
    taken: dict[tuple[int, int], str] = {}
    for image, camera, frame in zip(
        model.images, found.cameras.tolist(), found.frames.tolist(), strict=False
    ):
        first = taken.setdefault((camera, frame), image.name)
        if first != image.name:
            raise InputError(
                "CAP-241",
                f"{shown(first)} and {shown(image.name)} are both read as frame {frame + 1} of camera "
                f"{shown(found.labels[camera])}; name images <camera>/frame_<number>.",
            )
    return _timed(found, [*(i.name for i in model.images), *others])


def _timed(found: Arrangement, names: Sequence[str]) -> Arrangement:
    """The arrangement with the times in the names; where names told the frames, cameras are paired by their times."""
    stems = [str(PurePosixPath(n.replace("\\", "/")).with_suffix("")) for n in names]
    members = [np.flatnonzero(found.cameras == c).tolist() for c in range(len(found.labels))]
    read = read_times([[stems[i] for i in group] for group in members])
    if read is None:
        return found
    frames, stamps = found.frames.copy(), np.zeros(len(names), np.int64)
    for group, times in zip(members, read.stamps, strict=True):
        stamps[group] = times
    if found.origin == NAMES:
        order = [sorted(group, key=lambda i: int(stamps[i])) for group in members]
        paired = pair([stamps[group].tolist() for group in order])
        if any(paired.unused):
            return found
        for group, shown_by in zip(order, paired.frames, strict=True):
            for moment, place in shown_by.items():
                frames[group[place]] = moment
        return replace(found, frames=frames, times=paired.times, time_unit=read.unit)
    there = found.cameras >= 0
    shown_at = [np.sort(stamps[there & (frames == f)]) for f in range(int(frames.max()) + 1)]
    times = np.array([each[len(each) // 2] for each in shown_at])
    return replace(found, times=times, time_unit=read.unit) if bool((np.diff(times) > 0).all()) else found


def _arranged(model: ColmapModel, others: Sequence[str]) -> Arrangement:
    """As `arrange`, unchecked."""
    images = model.images
    by_names = readings([*(i.name for i in images), *others], images)
    frames = _rig_frames(model)
    if frames is None:
        return _from_names(by_names[0], images)
    cameras = _codes([i.camera_id for i in images])
    agreeing = next((r for r in by_names if r.same_as(cameras, frames)), None)
    if agreeing is not None:
        return Arrangement(agreeing.cameras, agreeing.frames, agreeing.labels, model.frames_name)
    wider = next((r for r in by_names[:1] if _joins(r, cameras, frames)), None)
    if wider is not None:
        return Arrangement(wider.cameras, wider.frames, wider.labels, f"{model.frames_name} and image names")
    alone = sum(n == 1 for n in Counter(frames.tolist()).values())
    doubt = ""
    if alone:
        doubt = (
            f"{alone} COLMAP images belong to no frame of a rig; each is taken for a frame of its own. Remove them "
            "from the model if the rig did not take them."
        )
    unknown = np.full(len(others), -1)
    return Arrangement(
        np.concatenate([cameras, unknown]),
        np.concatenate([_in_order(images, cameras, frames), unknown]),
        _labels(images, cameras),
        model.frames_name,
        doubt,
    )


def _from_names(reading: Reading, images: Sequence[ColmapImage]) -> Arrangement:
    doubt = ""
    if reading.is_unsure:
        one, camera = images[-1].name, reading.labels[int(reading.cameras[len(images) - 1])]
        doubt = (
            f"Which part of the image names is the camera and which the frame is unsure; '{one}' is read as frame "
            f"{int(reading.frames[len(images) - 1]) + 1} of camera '{camera}'. Name images <camera>/frame_<number> "
            "if that is wrong."
        )
    return Arrangement(reading.cameras, reading.frames, reading.labels, NAMES, doubt)


def _rig_frames(model: ColmapModel) -> Array | None:
    """The frame of each image [N], where the model has frames of more than one image."""
    listed = [model.frames.get(i.key) for i in model.images]
    if max(Counter(f for f in listed if f is not None).values(), default=0) < 2:
        return None
    # an image without a frame gets one of its own
    return _codes([(1, i) if f is None else (0, f) for i, f in enumerate(listed)])


def _joins(reading: Reading, cameras: Array, frames: Array) -> bool:
    """Whether the names put together whole frames of several rigs, and leave the cameras as they are."""
    count = len(cameras)
    both = np.stack([frames, reading.frames[:count]], axis=1)
    is_coarser = len(np.unique(both, axis=0)) == len(np.unique(frames))
    return is_coarser and same_division(cameras, reading.cameras[:count])


def _in_order(images: Sequence[ColmapImage], cameras: Array, frames: Array) -> Array:
    """Frames numbered in the order of their images' names, camera by camera: the one with the most images first."""
    placed: list[int] = []
    for camera, _ in Counter(cameras.tolist()).most_common():
        own = sorted(
            (natural_key(images[i].name), int(frames[i])) for i in np.flatnonzero(cameras == camera).tolist()
        )
        last = -1
        if len(placed) == len(set(frames.tolist())):
            break
        for _, frame in own:
            if frame in placed:
                last = max(last, placed.index(frame))
            else:
                placed.insert(last + 1, frame)
                last += 1
    at = {frame: i for i, frame in enumerate(placed)}
    return np.array([at[int(f)] for f in frames])


def _labels(images: Sequence[ColmapImage], cameras: Array) -> tuple[str, ...]:
    """Names of cameras: the folders that all images of a camera share, else the number that COLMAP gave it."""
    folders: list[str] = []
    for camera in range(int(cameras.max()) + 1):
        paths = [images[i].name.replace("\\", "/") for i in np.flatnonzero(cameras == camera).tolist()]
        shared = {p.rpartition("/")[0] for p in paths}
        folders.append(shared.pop() if len(shared) == 1 else "")
    if all(folders) and len(set(folders)) == len(folders):
        return short_labels(folders)
    _, first = np.unique(cameras, return_index=True)
    return tuple(f"camera_{images[i].camera_id}" for i in first.tolist())


def _codes(values: Sequence[object]) -> Array:
    """Values numbered in ascending order."""
    order = {v: i for i, v in enumerate(sorted(set(values)))}  # pyright: ignore
    return np.array([order[v] for v in values])
