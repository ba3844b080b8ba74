"""A capture as a studio or a biomechanics laboratory leaves it → the native layout that everything here reads.

Calibration and videos in; every image undistorted and made smaller as it is decoded; H.264 videos, masks and
cameras.json out, written into a temporary folder that takes its name at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...fields import choice, flag, number, text, validate
from ...files.folders import visible
from ...files.images import SUFFIXES as IMAGE_SUFFIXES
from ...files.images import image_size, read_image
from ...files.paths import existing_folder, file_stems
from ...geometry.pose_adjustment import adjust_poses, reprojection_errors, rms
from ...masks.person import people_mask
from ...models.person_matting import load_person_matting
from ...scene.cameras import Cameras
from ..undistort import remap, undistortion_map
from ..video_file import VideoFile, probe
from ..video_pixels import to_grey, to_pixels
from .background import empty_scene, subject_mask
from .calibration import as_cameras
from .capture_folder import FITS, Shot, read_capture_folder, read_sightings
from .native_folder import Conversion, Converted, Pixels, encoder, new_folder, uneven_times, write_description
from .silhouettes import agreeing_masks

# images the empty scene is made from: memory stays the same for any length
SAMPLES = 40


@dataclass(frozen=True)
class CaptureConfig:
    """How a capture is converted."""

    height: int = number(
        480,
        0,
        8192,
        "Height of the pictures in pixels, 0 keeps it: more shows finer detail and trains slower.",
        16,
    )
    every: int = number(
        1, 1, 1000, "Use every n-th frame: more makes motion coarser and training shorter.", 1
    )
    makes_masks: bool = flag(True, "Write masks of what moves, found against the empty scene.")
    mask_threshold: float = number(
        0.1,
        0.01,
        0.9,
        "How far a pixel must differ from the empty scene: more keeps shadows out and loses limbs.",
        0.01,
    )
    plates: str = text(
        "", "Folder of pictures of the scene at another time, one named after each camera; may be empty."
    )
    points: str = text(
        "", "JSON file of points marked in several views: camera poses are adjusted to agree with them."
    )
    calibration: str = text("", "Calibration file inside the capture's folder; empty finds it.")
    units: str = choice(
        "auto", ("auto", "mm", "m"), "Unit of the calibration's positions; auto takes the format's own."
    )
    fit: str = choice(
        "auto",
        FITS,
        "How a video of another size than calibrated was made: auto recognises black bars and plain scaling.",
    )
    quality: int = number(14, 0, 40, "H.264 quantiser: more makes smaller files and coarser pictures.", 1)
    shows_people: bool = flag(
        False,
        "The subject is people: what the bundled matting network takes for a person is added to the masks. Helps where people "
        "stand still or have the colors of the background.",
        label="people",
        since="0.2",
    )

    def __post_init__(self) -> None:
        validate(self)


def convert_capture(source: Path, target: Path, config: CaptureConfig | None = None) -> Conversion:
    """Progress while the capture in `source` becomes a native folder `target`; the generator returns its Path.

    `target` must not exist yet, or be empty. Closing the generator early leaves nothing behind. InputError: see
    read_capture_folder.
    """
    config = config or CaptureConfig()
    shots, notes = read_capture_folder(source, config.calibration, config.units, config.fit)
    cameras = ideal_cameras(shots)
    if config.points:
        sightings = read_sightings(Path(config.points), shots)
        before = rms(reprojection_errors(cameras, sightings))
        cameras = adjust_poses(cameras, sightings)
        after = rms(reprojection_errors(cameras, sightings))
        notes.append(
            f"Poses adjusted to {len(sightings)} marked points: {before:.2f} px before, {after:.2f} px after "
            "(RMS at the calibrated size)."
        )
    cameras = cameras.resized(tuple(_size(size, config.height) for size in cameras.sizes))
    frames = range(0, len(shots[0].numbers), config.every)
    stems = file_stems(cameras.names)
    views = [_View(shot, stems[v], cameras, v, config) for v, shot in enumerate(shots)]
    fps, times = _timing(shots[0], frames)
    agrees = config.makes_masks and len(shots) >= 3
    total = (1 + config.makes_masks + agrees) * len(shots) * len(frames)
    yield Converted(0, total, "; ".join([f"{len(shots)} views, {len(frames)} frames", *notes]))
    done = 0
    with new_folder(target) as partial:
        for view in views:
            for seen, image in view.write(partial, frames, fps, times):
                yield Converted(done + seen, total, image=image)
            done += (1 + config.makes_masks) * len(frames)
        for moment in _agree(partial, cameras, fps, times, config) if agrees else ():
            yield Converted(done + (moment + 1) * len(shots), total)
        write_description(partial, cameras, fps, len(frames), config.makes_masks, notes)
    return Path(target)


def _timing(shot: Shot, frames: range) -> tuple[float, list[float] | None]:
    """Frames per second of the chosen frames, and their times in seconds where they are not at a constant rate."""
    if shot.seconds is None:
        return shot.facts.fps / frames.step, None
    seconds = [shot.seconds[i] for i in frames]
    fps = 1 / float(np.median(np.diff(shot.seconds))) if len(shot.seconds) > 1 else shot.facts.fps
    return fps / frames.step, uneven_times(seconds, fps / frames.step)


def ideal_cameras(shots: list[Shot]) -> Cameras:
    """The pinhole cameras of the undistorted images, at the calibrated sizes."""
    return as_cameras([replace(shot.camera, K=shot.pinhole) for shot in shots])


class _View:
    """One camera on its way: reads, undistorts and encodes frame by frame."""

    def __init__(self, shot: Shot, stem: str, cameras: Cameras, view: int, config: CaptureConfig) -> None:
        self.shot, self.config, self.size = shot, config, cameras.sizes[view]
        # of its files
        self.stem = stem
        self.source_map = _source_map(shot, cameras, view)
        self.people = load_person_matting() if config.makes_masks and config.shows_people else None
        self.plate = (
            _plate(config.plates, shot, cameras, view) if config.plates and config.makes_masks else None
        )

    def write(
        self, folder: Path, frames: range, fps: float, times: list[float] | None
    ) -> Iterator[tuple[int, Pixels | None]]:
        """The view's video and mask video in `folder`; yields frames done and, in the middle, an image to look at."""
        shot, config = self.shot, self.config
        reader = VideoFile(shot.path, shot.name, shot.facts)
        scene: Pixels | None = None
        before = 0
        try:
            if config.makes_masks:
                picked = np.linspace(0, len(frames) - 1, min(SAMPLES, len(frames))).round().astype(int)
                samples: list[Pixels] = []
                for i in picked:
                    samples.append(self._image(reader, frames[i]))
                    yield round(len(frames) * len(samples) / len(picked)), None
                scene = empty_scene(np.stack(samples), self.plate)
                before = len(frames)
            masks = folder / "masks" / f"{self.stem}.mp4" if config.makes_masks else None
            with (
                encoder(
                    folder / "videos" / f"{self.stem}.mp4", self.size, fps, config.quality, times
                ) as video,
                encoder(masks, self.size, fps, min(config.quality, 8), times) as mask_video,
            ):
                for i, moment in enumerate(frames):
                    image = self._image(reader, moment)
                    video.add(image)
                    shown = image
                    if scene is not None:
                        mask = subject_mask(image, scene, config.mask_threshold)[..., None]
                        if self.people is not None:
                            mask = np.maximum(mask, people_mask(self.people, image)[..., None])
                        mask_video.add(np.repeat(mask, 3, axis=2))
                        shown = (image * (0.35 + 0.65 / 255 * mask)).astype(np.uint8)
                    yield before + i + 1, shown if i == len(frames) // 2 else None
        finally:
            reader.close()

    def _image(self, reader: VideoFile, moment: int) -> Pixels:
        large = remap(to_pixels(reader.read(self.shot.numbers[moment]), self.shot.facts), self.source_map)
        return _averaged(large, self.size)


def _agree(
    folder: Path, cameras: Cameras, fps: float, times: list[float] | None, config: CaptureConfig
) -> Iterator[int]:
    """Rewrites the masks in `folder` so that views agree, one frame after another; yields each frame done."""
    quality = min(config.quality, 8)
    rough = folder / "masks.rough"
    (folder / "masks").rename(rough)
    stems = file_stems(cameras.names)
    facts = [probe(rough / f"{stem}.mp4", f"masks/{stem}.mp4") for stem in stems]
    readers = [VideoFile(rough / f"{stem}.mp4", stem, f) for stem, f in zip(stems, facts, strict=True)]
    with ExitStack() as stack:
        for reader in readers:
            stack.callback(reader.close)
        writers = [
            stack.enter_context(encoder(folder / "masks" / f"{stem}.mp4", size, fps, quality, times))
            for stem, size in zip(stems, cameras.sizes, strict=True)
        ]
        for moment in range(facts[0].frames):
            masks = [
                to_grey(r.read(moment), r.facts, size) > 127
                for r, size in zip(readers, cameras.sizes, strict=True)
            ]
            for writer, mask in zip(writers, agreeing_masks(cameras, masks), strict=True):
                writer.add(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
            yield moment
    shutil.rmtree(rough)


def _size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """Even width and height, as H.264 needs; never larger than the source."""
    wanted = min(height, size[1]) if height else size[1]
    factor = wanted / size[1]
    return max(2, 2 * round(size[0] * factor / 2)), max(2, 2 * round(wanted / 2))


def _source_map(shot: Shot, cameras: Cameras, view: int) -> NDArray[np.float32]:
    """Where in the video each pixel lies [n·H, n·W, 2], n samples per side for each wanted pixel: no aliasing."""
    width, height = cameras.sizes[view]
    n = max(1, round(shot.camera.size[1] * shot.zoom[1] / height))
    K = cameras.K[view].numpy().copy()
    K[:2] *= n
    calibrated = undistortion_map(shot.camera.K, shot.camera.distortion, K, (n * width, n * height))
    return (calibrated * np.array(shot.zoom) + np.array(shot.offset)).astype(np.float32)


def _averaged(large: Pixels, size: tuple[int, int]) -> Pixels:
    width, height = size
    n = large.shape[0] // height
    if n == 1:
        return large
    blocks = large.reshape(height, n, width, n, large.shape[2]).astype(np.uint32).sum(axis=(1, 3))
    return ((blocks + n * n // 2) // (n * n)).astype(np.uint8)


def _plate(folder: str, shot: Shot, cameras: Cameras, view: int) -> Pixels | None:
    """The image named after this camera in `folder` [H, W, 4], undistorted; of the calibrated or the video's size."""
    place = existing_folder(folder)
    name = shot.camera.name.lower()
    found = [
        f for f in visible(place) if f.suffix.lower() in IMAGE_SUFFIXES and f.stem.lower().startswith(name)
    ]
    if not found:
        return None
    size = image_size(found[0], found[0].name)
    if size == shot.camera.size:
        shot = replace(shot, zoom=(1.0, 1.0), offset=(0.0, 0.0))
    elif size != shot.facts.size:
        raise InputError(
            "CAP-071",
            f"{found[0].name} has {size[0]}x{size[1]} pixels. A plate must have the size of the video "
            f"({shot.facts.size[0]}x{shot.facts.size[1]}) or of the calibration "
            f"({shot.camera.size[0]}x{shot.camera.size[1]}).",
        )
    image, alpha = read_image(found[0], found[0].name, size)
    alpha = np.full(image.shape[:2], 255, dtype=np.uint8) if alpha is None else alpha
    image = np.concatenate([image, alpha[..., None]], axis=2)
    return _averaged(remap(image, _source_map(shot, cameras, view)), cameras.sizes[view])
