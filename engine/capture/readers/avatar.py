"""Head captures as VHAP exports them and GaussianAvatars trains on them (NeRSemble, or one camera).

`transforms_{train,val,test}.json` list one image a frame and camera, with the head parameters of the frame beside them
(`flame_param/`, read by `engine.io.heads`). A camera that never occurs in training is a test view, the time steps of
transforms_test.json are held out. The reference code assumes centered principal points; here cx and cy count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...files.jsonfile import read_json
from ...files.paths import open_regular, printable, require_file
from ...heads.motion import USUAL_HEAD_FPS
from ..camera_checks import inverted, number
from ..description import Capture, View
from ..options import LoadOptions
from ..view_images import ImageFile
from .transforms import FLIP, Shot, shots

TRAIN, VAL, TEST = "transforms_train.json", "transforms_val.json", "transforms_test.json"
CANONICAL = "canonical_flame_param.npz"
PARAMETERS = "flame_param_path"
# bytes of transforms_train.json; the lists before its first frame are shorter
LOOKED_AT = 1 << 20


@dataclass(frozen=True, eq=False)
class _Sample:
    shot: Shot
    camera: int
    step: int  # time step


def recognizes(folder: Path) -> bool:
    if (folder / CANONICAL).exists():
        return True
    try:
        with open_regular(folder / TRAIN) as file:
            return f'"{PARAMETERS}"'.encode() in file.read(LOOKED_AT)
    except OSError:
        return False


def read(folder: Path, options: LoadOptions) -> Capture:
    """The capture in `folder`: one view per camera. InputError names the image or camera at fault."""
    require_file(folder / TRAIN, folder, "it contains the training cameras of a head capture")
    files = [folder / name for name in (TRAIN, VAL, TEST) if (folder / name).exists()]
    parsed = {p.name: read_json(require_file(p, folder, "export it again"), p.name) for p in files}
    samples = {name: _samples(folder, data, name) for name, data in parsed.items()}
    warnings: list[str] = []
    fps = _frame_rate(parsed, options.frames_per_second, warnings)
    by_camera = _by_camera(samples)
    steps = sorted({sample.step for group in by_camera.values() for sample in group})
    names = _names(by_camera)
    moment = {step: i for i, step in enumerate(steps)}
    trained = {sample.camera for sample in samples[TRAIN]}
    held = _held_out(samples, warnings)
    return Capture(
        folder=folder,
        layout="avatar",
        views=[_view(names[c], by_camera[c], moment) for c in by_camera],
        times=np.array(steps) / fps,
        fps=fps,
        background=(1.0, 1.0, 1.0),
        test_views=[names[c] for c in by_camera if c not in trained],
        test_moments=[moment[step] for step in sorted(held)],
        warnings=warnings,
        files=files,
    )


def _frame_rate(parsed: dict[str, dict[str, Any]], chosen: float, warnings: list[str]) -> float:
    """Frames per second: as chosen, else the first that a file stores, else the usual rate of heads with a warning."""
    stored = (
        number(data, "fps", name, positive=True)
        for name, data in parsed.items()
        if data.get("fps") is not None
    )
    found = chosen or next(stored, 0.0)
    if not found:
        warnings.append(
            f"{TRAIN} stores no frame rate: {USUAL_HEAD_FPS:g} frames per second are assumed. Set frames_per_second if "
            "that is wrong."
        )
    return found or USUAL_HEAD_FPS


def _by_camera(samples: dict[str, list[_Sample]]) -> dict[int, list[_Sample]]:
    """All samples, in the order of their files, by camera_index; cameras ascending."""
    groups: dict[int, list[_Sample]] = {}
    for sample in (sample for each in samples.values() for sample in each):
        groups.setdefault(sample.camera, []).append(sample)
    return dict(sorted(groups.items()))


def _samples(folder: Path, data: dict[str, Any], file: str) -> list[_Sample]:
    found = shots(folder, data, file)
    cameras = [_index(frame, "camera_index", s) for s, frame in zip(found, data["frames"], strict=True)]
    steps = [_index(frame, "timestep_index", s) for s, frame in zip(found, data["frames"], strict=True)]
    return [_Sample(*each) for each in zip(found, cameras, steps, strict=True)]


def _index(frame: dict[str, Any], key: str, shot: Shot) -> int:
    value = number(frame, key, shot.where)
    if value != int(value) or value < 0:
        raise InputError(
            "CAP-161",
            f"{shot.where}: {key} is {value:g}, but an integer of at least 0 is expected. Export the capture again.",
        )
    return int(value)


def _held_out(samples: dict[str, list[_Sample]], warnings: list[str]) -> set[int]:
    """Time steps that are not trained on: those of the test file, and those that only the validation file has."""
    trained = {sample.step for sample in samples[TRAIN]}
    held = {sample.step for sample in samples.get(TEST, ())}
    held |= {sample.step for sample in samples.get(VAL, ())} - trained
    if trained <= held:
        warnings.append(
            f"{TEST} lists every frame of {TRAIN}: frames that occur in both are trained on, so none of them is held out."
        )
        held -= trained
    return held


def _view(name: str, samples: list[_Sample], moment: dict[int, int]) -> View:
    """One camera with its images; the same image may be listed by two files."""
    first = samples[0].shot
    images: dict[int, ImageFile] = {}
    for sample in samples:
        shot = sample.shot
        _check_stands(name, sample, samples[0])
        at = moment[sample.step]
        if at in images and images[at].path != shot.image.path:
            raise InputError(
                "CAP-162",
                f"{shot.where} and {images[at].name} both show camera {name} at timestep_index {sample.step}. Remove "
                "one of them.",
            )
        images[at] = shot.image
    where = f"{first.where} (camera {name})"
    return View(name, where, first.K, inverted(first.pose * FLIP), first.size, images, first.distortion)


def _check_stands(name: str, sample: _Sample, first: _Sample) -> None:
    shot, other = sample.shot, first.shot
    if shot.stands_with(replace(other, label=shot.label)):
        return
    if shot.size != other.size:
        what = f"has {shot.size[0]} × {shot.size[1]} pixels instead of {other.size[0]} × {other.size[1]}"
    else:
        moved = float(np.linalg.norm(shot.pose[:3, 3] - other.pose[:3, 3]))
        what = f"is {moved:.3g} units away, turned or of another lens"
    raise InputError(
        "CAP-163",
        f"{shot.where}: camera {name} {what} (first in {other.image.name}), but each camera of a head capture must stay "
        'fixed. For a moving camera, choose the layout "dnerf".',
    )


def _names(by_camera: dict[int, list[_Sample]]) -> dict[int, str]:
    """Camera ids where the file gives each camera its own, else the cameras' numbers."""
    names = {camera: printable(samples[0].shot.label) for camera, samples in by_camera.items()}
    distinct = {name for name in names.values() if name}
    if len(distinct) < len(names):
        return {camera: f"{camera:02d}" for camera in by_camera}
    return names
