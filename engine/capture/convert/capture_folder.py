"""A folder from a capture studio: which video belongs to which calibrated camera, and how its pixels relate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.folders import natural_key, visible
from ...files.jsonfile import read_json
from ...files.paths import existing_folder, inside, relative_name
from ...geometry.pose_adjustment import Sighting
from ..pairing import SECOND, period_of, room
from ..undistort import pinhole_inside
from ..video_file import SUFFIXES, VideoFacts, VideoFile, probe
from ..video_pairing import pair_videos
from ..video_pixels import to_pixels
from ..video_remarks import video_remarks
from .calibration import CalibratedCamera
from .pose2sim import read_pose2sim
from .qualisys import read_qualisys

FITS = ("auto", "letterbox", "stretch", "crop")
DARK = 32  # 0..255: bars of a letterboxed video are darker


@dataclass(frozen=True, eq=False)
class Shot:
    """One camera with its video. Video pixel = zoom · calibrated pixel + offset, both from the corner."""

    camera: CalibratedCamera
    path: Path
    name: str  # of the video, for messages
    facts: VideoFacts
    zoom: tuple[float, float]
    offset: tuple[float, float]
    # frames of the video that all cameras have, in order; and their times in seconds, where they are not at a constant rate
    numbers: Sequence[int] = ()
    seconds: tuple[float, ...] | None = None

    @property
    def pinhole(self) -> NDArray[np.float64]:
        """K [3, 3] of the undistorted image: the calibrated size, wholly inside the filmed image."""
        return pinhole_inside(self.camera.K, self.camera.size, self.camera.distortion)

    def to_ideal(self, pixel: tuple[float, float]) -> tuple[float, float]:
        """A pixel of the video → the same ray's pixel in the image of `pinhole`."""
        calibrated = (np.array(pixel) - self.offset) / self.zoom
        K = self.camera.K
        distorted = np.linalg.solve(K, [*calibrated, 1.0])[:2]
        u, v, _ = self.pinhole @ [*self.camera.distortion.undistort(distorted[None])[0], 1.0]
        return float(u), float(v)


def read_capture_folder(
    source: Path, calibration: str = "", units: str = "auto", fit: str = "auto"
) -> tuple[list[Shot], list[str]]:
    """The shots of a folder with a calibration file and a video per camera, and sentences about what was found odd.

    Both may lie in `source` or in its subfolders `calibration` and `videos`. InputError: no calibration, no videos, cameras
    and videos that do not belong together, frame rates that differ, no common frame, sizes that the calibration cannot
    explain.
    """
    source = existing_folder(source)
    file = _calibration_file(source, calibration)
    cameras = read_qualisys(file, units) if file.name.endswith(".txt") else read_pose2sim(file, units)
    pairs, warnings = _pair(source, file, cameras)
    shots = [_shot(source, camera, video, fit) for camera, video in pairs]
    warnings += video_remarks({shot.name: shot.facts for shot in shots})
    return _paired(shots, warnings), warnings


def _paired(shots: list[Shot], warnings: list[str]) -> list[Shot]:
    """The shots with the frames that show the same instants: those of one number, or the nearest in time."""
    stamps = {shot.name: shot.facts.nanoseconds() for shot in shots}
    _check_rates({shot.name: _rate(shot.facts) for shot in shots})
    paired = pair_videos(stamps, warnings)
    if paired is not None:
        shared = [m for m in range(len(paired.times)) if all(m in frames for frames in paired.frames)]
        if not shared:
            raise InputError(
                "CAP-262",
                f"The {len(shots)} videos have no frame in common: they were taken at different times. Cut them so that they "
                "start together.",
            )
        seconds = tuple(((paired.times[shared] - paired.times[shared[0]]) / SECOND).tolist())
        warnings.append(
            f"{len(shared)} of {len(paired.times)} frames are in all videos; the others are left out."
        )
        return [
            replace(shot, numbers=[frames[m] for m in shared], seconds=seconds)
            for shot, frames in zip(shots, paired.frames, strict=True)
        ]
    counts = {shot.name: shot.facts.frames for shot in shots}
    short = min(counts, key=counts.__getitem__)
    if counts[short] != max(counts.values()):
        warnings.append(
            f"{short} has {counts[short]} frames, but others have up to {max(counts.values())}. All videos are cut to "
            "the shortest; check that they start together."
        )
    return [replace(shot, numbers=range(counts[short])) for shot in shots]


def _rate(facts: VideoFacts) -> float:
    """Frames per second, those included that are missing."""
    stamps = facts.nanoseconds()
    return facts.fps if room(stamps) == len(stamps) else SECOND / period_of([np.array(stamps)])


def _check_rates(rates: dict[str, float]) -> None:
    slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    if rates[fast] - rates[slow] > 0.01 * rates[fast]:
        raise InputError(
            "CAP-040",
            f"{slow} has {rates[slow]:g} fps, but {fast} has {rates[fast]:g} fps. Synchronize the videos "
            "and export them at one frame rate.",
        )


def read_sightings(path: Path, shots: list[Shot]) -> list[Sighting]:
    """Marked points: JSON {"points": [{"name": …, "accuracy": pixels, "seen": {camera: [u, v] in its video}}]}.

    Pixels come back undistorted, for cameras with each shot's `pinhole`. InputError names the point that is wrong.
    """
    if not path.is_file():
        raise InputError("CAP-041", f"{path}: this file of marked points does not exist. Check the path.")
    data = read_json(path, path.name)
    views = {shot.camera.name: i for i, shot in enumerate(shots)}
    points = data.get("points")
    if not isinstance(points, list) or not points:
        raise InputError(
            "CAP-042", f'{path.name}: the list "points" is empty or missing. Add at least one marked point.'
        )
    return [_sighting(point, i, path.name, shots, views) for i, point in enumerate(points)]


def _sighting(point: object, index: int, file: str, shots: list[Shot], views: dict[str, int]) -> Sighting:
    """One marked point of `file`, in undistorted pixels."""
    entry: dict[str, Any] = point if isinstance(point, dict) else {}
    name = str(entry.get("name", index))
    seen: Any = entry.get("seen")
    if not isinstance(seen, dict) or len(seen) < 2:
        raise InputError(
            "CAP-043",
            f"{file}: point '{name}' is marked in fewer than two cameras. Mark it in two or more.",
        )
    pixels: dict[int, tuple[float, float]] = {}
    for camera, pixel in seen.items():
        if camera not in views:
            raise InputError(
                "CAP-044",
                f"{file}: point '{name}' names camera '{camera}', which is not in the calibration. Correct "
                "the name.",
            )
        pixels[views[camera]] = _ideal_pixel(pixel, shots[views[camera]], f"{file}: point '{name}'")
    accuracy = entry.get("accuracy", 1.0)
    if not isinstance(accuracy, int | float) or not 0.01 <= accuracy <= 1000:
        raise InputError(
            "CAP-047",
            f"{file}: point '{name}' has the accuracy {accuracy}. It must be a number of pixels from 0.01 "
            "to 1000.",
        )
    return Sighting(name, pixels, float(accuracy))


def _ideal_pixel(pixel: Any, shot: Shot, where: str) -> tuple[float, float]:
    """The undistorted pixel of a mark [u, v] in the video of `shot`."""
    camera = shot.camera.name
    try:
        u, v = (float(x) for x in pixel)
    except (TypeError, ValueError) as error:
        raise InputError(
            "CAP-045", f"{where} has no pixel [u, v] for {camera}. Correct the entry."
        ) from error
    ideal = shot.to_ideal((u, v))
    if not np.isfinite(ideal).all():
        raise InputError(
            "CAP-046",
            f"{where} is at ({u:g}, {v:g}), outside the field of view of {camera}. Mark it again.",
        )
    return ideal


def has_calibration(source: Path, chosen: str = "") -> bool:
    """Whether `source` holds a studio's calibration (or one was chosen), rather than a dataset of another kind."""
    return bool(chosen or _found(source))


def _found(source: Path) -> list[Path]:
    places = (source, source / "calibration")
    found = [f for folder in places for f in visible(folder, "*.qca.txt")]
    return found or [f for folder in places for f in visible(folder, "Calib*.toml")]


def _calibration_file(source: Path, chosen: str) -> Path:
    if chosen:
        file = inside(source, chosen, "calibration")
        if not file.is_file():
            raise InputError(
                "CAP-048",
                f"{relative_name(file, source)}: this calibration file does not exist in {source.name}. Check "
                "the path.",
            )
        if not file.name.endswith((".txt", ".toml")):
            raise InputError(
                "CAP-049",
                f"{file.name} is not a supported calibration. Use a Qualisys .qca.txt or Pose2Sim .toml file.",
            )
        return file
    found = _found(source)
    if not found:
        raise InputError(
            "CAP-050",
            f"{source.name} does not contain a calibration. Put a Qualisys .qca.txt or Pose2Sim "
            "Calib*.toml file there or in its subfolder 'calibration'.",
        )
    if len(found) > 1:
        names = ", ".join(relative_name(f, source) for f in found)
        raise InputError(
            "CAP-051", f"{source.name} contains {len(found)} calibrations ({names}). Select the one to use."
        )
    return found[0]


def _videos(source: Path) -> list[Path]:
    """The videos of the first folder that holds any, in natural order."""
    for folder in (source / "videos", source):
        found = [f for f in visible(folder) if f.suffix.lower() in SUFFIXES]
        if found:
            return sorted(found, key=lambda f: natural_key(f.name))
    raise InputError(
        "CAP-052",
        f"{source.name} does not contain any videos. Put one per camera there or in its subfolder 'videos'.",
    )


def _pair(
    source: Path, file: Path, cameras: list[CalibratedCamera]
) -> tuple[list[tuple[CalibratedCamera, Path]], list[str]]:
    videos = _videos(source)
    by_name = {camera.name.lower(): camera for camera in cameras}
    stems = [video.stem.lower() for video in videos]
    if len(set(stems)) == len(stems) and set(stems) <= set(by_name):
        left = [c.name for c in cameras if c.name.lower() not in stems]
        warnings = [f"Calibrated cameras without a video are skipped: {', '.join(left)}."] if left else []
        return [(by_name[stem], video) for stem, video in zip(stems, videos, strict=True)], warnings
    if len(videos) != len(cameras):
        raise InputError(
            "CAP-053",
            f"{file.name} describes {len(cameras)} cameras ({', '.join(c.name for c in cameras)}), but "
            f"there are {len(videos)} videos ({', '.join(v.name for v in videos)}). Name each video after "
            "its camera.",
        )
    matched = ", ".join(f"{c.name} = {v.name}" for c, v in zip(cameras, videos, strict=True))
    return (
        list(zip(cameras, videos, strict=True)),
        [f"The videos are not named after cameras and were matched in order: {matched}."],
    )


def _shot(source: Path, camera: CalibratedCamera, path: Path, fit: str) -> Shot:
    name = relative_name(path, source)
    facts = probe(path, name)
    (w, h), (vw, vh) = camera.size, facts.size
    plain, centered = (1.0, 1.0), ((vw - w) / 2, (vh - h) / 2)
    zoom = min(vw / w, vh / h)
    letterbox = ((vw - zoom * w) / 2, (vh - zoom * h) / 2)
    if (w, h) == (vw, vh):
        return Shot(camera, path, name, facts, plain, (0.0, 0.0))
    if fit == "auto":
        if max(letterbox) < 0.51:
            fit = "stretch"
        elif _has_bars(path, name, facts, letterbox):
            fit = "letterbox"
        else:
            turned = " (it appears to be rotated; rotate the video first)" if (w > h) != (vw > vh) else ""
            raise InputError(
                "CAP-054",
                f"{name} has {vw}x{vh} pixels, but camera '{camera.name}' was calibrated at {w}x{h}{turned}. "
                "Export it at that size, or set fit to letterbox, stretch or crop.",
            )
    if fit == "letterbox":
        return Shot(camera, path, name, facts, (zoom, zoom), letterbox)
    if fit == "stretch":
        return Shot(camera, path, name, facts, (vw / w, vh / h), (0.0, 0.0))
    if (min(centered) < 0 and max(centered) > 0) or min(centered) >= 0:
        raise InputError(
            "CAP-055", f"{name} has {vw}x{vh} pixels, so it cannot be a crop of {w}x{h}. Choose another fit."
        )
    K = camera.K.copy()
    K[:2, 2] += centered
    cropped = CalibratedCamera(
        camera.name, (vw, vh), K, camera.distortion, camera.world_to_camera, camera.residual
    )
    return Shot(cropped, path, name, facts, plain, (0.0, 0.0))


def _has_bars(path: Path, name: str, facts: VideoFacts, bars: tuple[float, float]) -> bool:
    """Whether the first image is black where letterboxing leaves bars (the outermost part of them)."""
    video = VideoFile(path, name, facts)
    try:
        image = to_pixels(video.read(0), facts)
    finally:
        video.close()
    x, y = (max(1, int(0.6 * bar)) for bar in bars)
    edges = [image[:, :x], image[:, -x:]] if bars[0] > bars[1] else [image[:y], image[-y:]]
    return all(float(edge.mean()) < DARK for edge in edges)
