"""Head parameters over time: GaussianAvatars' `flame_param.npz`, or a capture's folder with `flame_param/00000.npz` ….

A folder's frames come in the order of their timestep_index, whichever transforms file lists them. `dynamic_offset` is
ignored, as in the reference code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError
from ...files.jsonfile import read_json
from ...files.npzfile import read_arrays
from ...files.paths import inside, printable, relative_name, require_file
from ...heads import HeadMotion
from ...heads.motion import POSES, USUAL_HEAD_FPS
from .pickles import LARGEST, too_large

TRANSFORMS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
PARAMETERS = "flame_param_path"
AVATAR = "flame_param.npz"
MOST_FRAMES = 200_000
KEYS = ("shape", "expr", *POSES, "static_offset")

Arrays = dict[str, NDArray[Any]]


def read_head_motion(source: Path | str, frames_per_second: float = 0.0) -> HeadMotion:
    """Head parameters, checked.

    Args:
        source: A `flame_param.npz` with [T, …] arrays, the folder that holds one, or the folder of a head capture.
        frames_per_second: Of the time steps; 0 takes what the folder stores, else 25.

    Raises:
        InputError: Missing, damaged, or frames that contradict each other.
    """
    return read_timed_motion(source, frames_per_second)[0]


def read_timed_motion(source: Path | str, frames_per_second: float = 0.0) -> tuple[HeadMotion, str]:
    """What `read_head_motion` reads, and a sentence where its frame rate had to be assumed."""
    source = Path(source)
    # the folder of an avatar's iteration holds them all in one file
    file = source / AVATAR if (source / AVATAR).is_file() else source
    if file.is_dir():
        return _from_folder(source, frames_per_second)
    arrays = _read(file, printable(file.name))
    return _timed(arrays, np.arange(len(arrays["expr"])), frames_per_second, printable(source.name))


def _read(path: Path, name: str) -> Arrays:
    """The arrays of one file in float32: per frame [T, …], `shape` [S], `static_offset` [V, 3]."""
    if path.is_file() and path.stat().st_size > LARGEST:
        raise too_large(name)
    arrays = read_arrays(path, name, KEYS, LARGEST)
    if missing := [key for key in KEYS if key not in arrays and key != "static_offset"]:
        raise InputError(
            "HED-024",
            f"{name} has no head parameters named {', '.join(missing)}. Select a flame_param.npz of GaussianAvatars or "
            "VHAP.",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        made = {key: _single(key, array.astype(np.float32)) for key, array in arrays.items()}
    frames = len(made["expr"]) if made["expr"].ndim == 2 else 0
    _check_shapes(made, frames, name)
    for key, array in made.items():
        if not bool(np.isfinite(array).all()):
            raise InputError(
                "HED-025", f"{name}: '{key}' holds NaN or infinite values; track the head again."
            )
    return made


def _single(key: str, array: NDArray[Any]) -> NDArray[Any]:
    """What belongs to the person, without a leading axis of one frame."""
    axes = {"shape": 2, "static_offset": 3}.get(key)
    return array[0] if array.ndim == axes and len(array) == 1 else array


def _check_shapes(arrays: Arrays, frames: int, name: str) -> None:
    for key, array in arrays.items():
        if key in POSES:
            expected, fits = f"({frames}, {POSES[key]})", array.shape == (frames, POSES[key])
        elif key == "expr":
            expected, fits = "(frames, coefficients)", array.ndim == 2 and frames > 0
        elif key == "shape":
            expected, fits = "(coefficients)", array.ndim == 1
        else:
            expected, fits = "(1, vertices, 3)", array.ndim == 2 and array.shape[1] == 3
        if not fits:
            counts = f" 'expr' has {frames} frames." if key in POSES else ""
            raise InputError(
                "HED-026",
                f"{name}: '{key}' has shape {array.shape}, expected {expected}.{counts or ' Export the parameters again.'}",
            )


def _motion(arrays: Arrays, times: NDArray[Any]) -> HeadMotion:
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    return HeadMotion(times=torch.from_numpy(np.asarray(times, dtype=np.float64)), **tensors)


def _timed(
    arrays: Arrays, steps: NDArray[Any], frames_per_second: float, name: str
) -> tuple[HeadMotion, str]:
    """The motion at time steps [T]; `frames_per_second` 0 is unknown."""
    motion = _motion(arrays, steps / (frames_per_second or USUAL_HEAD_FPS))
    if frames_per_second or len(motion) < 2:
        return motion, ""
    return motion, (
        f"{name} stores no frame rate: {USUAL_HEAD_FPS:g} frames per second are assumed. Set frames per second if that "
        "is wrong."
    )


def _from_folder(folder: Path, frames_per_second: float) -> tuple[HeadMotion, str]:
    files, fps = _listed(folder)
    if not files:
        raise InputError(
            "HED-027",
            f"{printable(folder.name)} has no head parameters: no transforms_train.json with {PARAMETERS}. Select the "
            "folder of a head capture or a flame_param.npz.",
        )
    first: Arrays = {}
    frames: dict[str, list[NDArray[Any]]] = {key: [] for key in ("expr", *POSES)}
    first_name = ""
    for path in files.values():
        name = relative_name(path, folder)
        arrays = _read(require_file(path, folder, "export the head parameters again"), name)
        if len(arrays["expr"]) != 1:
            raise InputError(
                "HED-028",
                f"{name} has {len(arrays['expr'])} frames, expected 1. Select the .npz itself instead of the folder.",
            )
        first_name = first_name or name
        first = first or arrays
        _check_same_head(arrays, first, name, first_name)
        for key, listed in frames.items():
            listed.append(arrays[key])
    joined = {key: np.concatenate(listed) for key, listed in frames.items()}
    fixed = {key: first[key] for key in ("shape", "static_offset") if key in first}
    steps = np.array(list(files), dtype=np.float64)
    return _timed(joined | fixed, steps, frames_per_second or fps or 0.0, printable(folder.name))


def _check_same_head(arrays: Arrays, first: Arrays, name: str, first_name: str) -> None:
    for key in ("shape", "static_offset"):
        one, other = arrays.get(key), first.get(key)
        same = (one is None) == (other is None) and (
            one is None
            or other is None
            or (one.shape == other.shape and bool(np.allclose(one, other, atol=1e-5)))
        )
        if not same:
            raise InputError(
                "HED-029",
                f"'{key}' of {name} differs from that of {first_name}, but all frames must show one head. Track the "
                "sequence again with one shape.",
            )
    if arrays["expr"].shape != first["expr"].shape:
        raise InputError(
            "HED-030",
            f"{name} has {arrays['expr'].shape[1]} expression coefficients, {first_name} has {first['expr'].shape[1]}. "
            "Track the sequence again with one head model.",
        )


def _listed(folder: Path) -> tuple[dict[int, Path], float | None]:
    """Time step → parameter file, in order of time, and the frame rate where a transforms file stores it."""
    found: dict[int, str] = {}
    fps: float | None = None
    for file in (folder / name for name in TRANSFORMS):
        if not file.is_file():
            continue
        data = read_json(file, file.name)
        rate, frames = data.get("fps"), data.get("frames")
        if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < 1e6:
            fps = fps or float(rate)
        for frame in frames if isinstance(frames, list) else []:
            step, name = _entry(frame, file.name)
            if name is None:
                continue
            if found.setdefault(step, name) != name:
                raise InputError(
                    "HED-031",
                    f"{file.name}: timestep_index {step} has the head parameters {printable(name)} and "
                    f"{printable(found[step])}. Export the capture again.",
                )
        if len(found) > MOST_FRAMES:
            raise InputError("HED-032", f"{file.name} lists more than {MOST_FRAMES:,} time steps; split it.")
    return {step: inside(folder, found[step], "transforms") for step in sorted(found)}, fps


def _entry(frame: Any, file: str) -> tuple[int, str | None]:
    """The time step of a frame and its parameter file."""
    step = frame.get("timestep_index") if isinstance(frame, dict) else None
    if not isinstance(frame, dict) or isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise InputError(
            "HED-033",
            f"{file}: a frame has the timestep_index {printable(repr(step))[:40]}, expected a whole number of at least 0. "
            "Export the capture again.",
        )
    name = frame.get(PARAMETERS)
    return step, name if isinstance(name, str) else None
