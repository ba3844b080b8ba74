"""Writing the native layout: a folder of H.264 videos, masks and one cameras.json, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ... import backends
from ...errors import InputError
from ...files.atomic import temporary_beside, write_atomically
from ...files.mp4 import tag_colors
from ...files.paths import file_stems, printable
from ...geometry.axes import axes_converge, nearest_to_axes
from ...scene.cameras import Cameras
from ...scene.video import MultiViewVideo
from ..cameras_json import write_cameras_json
from ..point_cloud import write_points

Pixels = NDArray[np.uint8]
POINTS = "points.ply"
# of a second, in which videos of variable rate are timed
TICKS = 90_000
# how far, in frames, times may be from those of a constant rate to be the same
UNEVEN = 0.01
# frames from one key frame of a written video to the next: training reads frames in random order, and each costs half of them
KEY_EVERY = 12


@dataclass(frozen=True, eq=False)
class Converted:
    """How far a conversion has come."""

    done: int  # of total; the first one says 0
    total: int
    note: str = ""  # what was found, with the first one
    image: Pixels | None = None  # [H, W, 3] now and then, the subject bright where there is a mask


# returns the new folder
Conversion = Generator[Converted, None, Path]


def convert_dataset(video: MultiViewVideo, target: Path, quality: int = 14) -> Conversion:
    """Any multi-view video (COLMAP with a lens, DyNeRF …; its reader undistorts) → a native folder `target`.

    Held-out views and frames, near and far, initial points and the background stay what they were. Every view must have every
    moment. InputError names the view that has gaps.
    """
    _check_complete(video)
    fps = _frame_rate(video)
    cameras = _even_sizes(video.cameras)
    stems = file_stems(cameras.names)
    total = video.views * video.moments
    yield Converted(0, total, f"{video.views} views, {video.moments} frames")
    with new_folder(target) as partial:
        for view in range(video.views):
            for done in _write_view(partial, video, view, stems[view], cameras.sizes[view], fps, quality):
                yield Converted(view * video.moments + done, total)
        if video.points is not None:
            origin = torch.tensor(cameras.origin, dtype=torch.float64)
            write_points(partial / POINTS, video.points.double() + origin, video.point_colors)
        trained = set(video.views_to_train())
        write_description(
            partial,
            cameras,
            fps,
            video.moments,
            video.has_masks,
            background=None if video.background is None else [float(c) for c in video.background],
            hold_out=[name for v, name in enumerate(cameras.names) if v not in trained],
            hold_out_frames=video.test_moments,
            reach=None if video.near is None or video.far is None else (video.near, video.far),
            points=None if video.points is None else POINTS,
        )
    return Path(target)


def _check_complete(video: MultiViewVideo) -> None:
    short = [video.cameras.names[v] for v in range(video.views) if not bool(video.available[v].all())]
    if short:
        raise InputError(
            "CAP-056",
            f"{video.name}: view '{printable(short[0])}' is missing some frames. The native layout needs "
            "a complete video per view.",
        )


def _frame_rate(video: MultiViewVideo) -> float:
    if video.fps:
        return video.fps
    return (video.moments - 1) / float(video.times[-1] - video.times[0]) if video.moments > 1 else 1.0


def uneven_times(times: Sequence[float], fps: float) -> list[float] | None:
    """The times in seconds from the first one; None where they are those of a constant rate."""
    shifted = [float(t - times[0]) for t in times]
    return shifted if any(abs(t * fps - i) > UNEVEN for i, t in enumerate(shifted)) else None


def _even_sizes(cameras: Cameras) -> Cameras:
    """The same cameras without an odd last row or column, which H.264 does not allow; K stays as it is."""
    even = tuple((max(2, w // 2 * 2), max(2, h // 2 * 2)) for w, h in cameras.sizes)
    return replace(cameras, K=cameras.K.clone(), sizes=even)


def _write_view(
    folder: Path, video: MultiViewVideo, view: int, stem: str, size: tuple[int, int], fps: float, quality: int
) -> Iterator[int]:
    """The video and the mask video of one view; yields the number of frames done."""
    times = uneven_times(video.times.tolist(), fps)
    masks = folder / "masks" / f"{stem}.mp4" if video.has_masks else None
    with (
        encoder(folder / "videos" / f"{stem}.mp4", size, fps, quality, times) as image_video,
        encoder(masks, size, fps, min(quality, 8), times) as mask_video,
    ):
        for moment in range(video.moments):
            frame = video.source.read(view, moment)
            image_video.add(frame.image.numpy()[: size[1], : size[0]])
            if masks is not None:
                mask = torch.full(frame.image.shape[:2], 255) if frame.mask is None else frame.mask
                values = mask.numpy().astype(np.uint8)[: size[1], : size[0], None]
                mask_video.add(np.repeat(values, 3, axis=2))
            yield moment + 1


def write_description(
    folder: Path,
    cameras: Cameras,
    fps: float,
    frame_count: int,
    has_masks: bool,
    notes: Sequence[str] = (),
    background: Sequence[float] | None = None,
    hold_out: Sequence[str] = (),
    hold_out_frames: Sequence[int] = (),
    reach: tuple[float, float] | None = None,  # near and far in world units; None = from the cameras
    points: str | None = None,  # a file in `folder`
) -> None:
    """cameras.json for videos in `videos/` and masks in `masks/` under `file_stems` of the cameras' names, and notes.txt."""
    stems = file_stems(cameras.names)
    near, far = depth_range(cameras) if reach is None else reach
    write_cameras_json(
        folder,
        cameras,
        fps,
        videos=[f"videos/{stem}.mp4" for stem in stems],
        masks=[f"masks/{stem}.mp4" for stem in stems] if has_masks else None,
        frame_count=frame_count,
        near=near,
        far=far,
        background=background,
        hold_out=hold_out,
        hold_out_frames=hold_out_frames,
        points=points,
    )
    if notes:
        with write_atomically(folder / "notes.txt") as partial:
            partial.write_text("\n".join([*notes, ""]), encoding="utf-8")


def depth_range(cameras: Cameras) -> tuple[float, float]:
    """(near, far) in world units around the point nearest to all viewing axes, wide enough for the room around it."""
    centers, forward = cameras.centers.double(), cameras.forward.double()
    if not axes_converge(forward, least=1e-12):
        return 0.1, 100.0
    distances = (centers - nearest_to_axes(centers, forward)).norm(dim=1)
    if not bool(distances.isfinite().all()) or float(distances.max()) < 1e-6:
        return 0.1, 100.0
    return float(0.2 * distances.min()) or 0.1, float(4.0 * distances.max())


@contextmanager
def new_folder(target: Path) -> Generator[Path, None, None]:
    """A temporary folder beside `target` that becomes `target` if all goes well, and nothing otherwise."""
    target = Path(os.path.abspath(target))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            "CAP-058", f"{printable(target)} already exists, and nothing is overwritten. Choose a new folder."
        )
    try:
        with temporary_beside(target) as partial:
            partial.mkdir(parents=True)
            yield partial
            os.replace(partial, target)
    except OSError as error:
        raise InputError(
            "CAP-059",
            f"{printable(target)} could not be written ({error.strerror or error}). Check the free space "
            "and the permissions.",
        ) from error


class VideoWriter:
    """An H.264 file that images are added to one by one; without a path, nothing is written.

    The images follow each other at `fps`, or at `times` in seconds.
    """

    def __init__(
        self,
        path: Path | None,
        size: tuple[int, int],
        fps: float,
        quality: int,
        times: Sequence[float] | None = None,
    ) -> None:
        backends.require("av")
        import av

        self._av, self._container = av, None
        self._times = None if times is None else iter(times)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        stream: Any = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"crf": str(quality), "preset": "medium", "g": str(KEY_EVERY)}
        tag_colors(stream)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        self._stream = stream

    def add(self, image: Pixels) -> None:
        """An image [H, W, 3] of the stated size."""
        if self._container is None:
            return
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        if self._times is not None:
            frame.pts, frame.time_base = round(next(self._times) * TICKS), Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self, whole: bool) -> None:
        if self._container is not None:
            if whole:
                self._container.mux(self._stream.encode())
            self._container.close()


@contextmanager
def encoder(
    path: Path | None, size: tuple[int, int], fps: float, quality: int, times: Sequence[float] | None = None
) -> Generator[VideoWriter, None, None]:
    video = VideoWriter(path, size, fps, quality, times)
    whole = False
    try:
        yield video
        whole = True
    finally:
        video.close(whole)
