"""What a reader finds, before it becomes a MultiViewVideo: checked, scaled, cut to the wanted moments in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..files import images
from ..files.paths import printable
from ..scene.cameras import Cameras
from ..scene.video import MultiViewVideo
from .camera_checks import check_intrinsics, check_near_far, rigid
from .frames import FrameStore, ImageFile, ImageView, Lens, VideoView, ViewImages
from .options import BACKGROUNDS, LoadOptions
from .undistort import Distortion, pinhole_inside
from .video_file import Handles, VideoFacts, VideoFile

Array = NDArray[Any]
MOST_VIEWS = 100_000


@dataclass(frozen=True)
class ViewVideo:
    """The video of a view, with the video of its mask where there is one."""

    path: Path
    name: str
    facts: VideoFacts
    mask: Path | None = None
    mask_name: str = ""
    mask_facts: VideoFacts | None = None


@dataclass(frozen=True, eq=False)
class View:
    """One camera as a reader found it."""

    name: str
    where: str  # for messages: the file and the entry that describe this camera
    K: Array  # [3, 3] of pictures of `size`
    world_to_camera: Array  # [4, 4] OpenCV axes
    size: tuple[int, int]  # (width, height) that the description claims
    images: ViewVideo | dict[int, ImageFile]  # dict: moment → file
    distortion: Distortion = field(default_factory=Distortion)


@dataclass(eq=False)
class Capture:
    """A whole data set as a reader found it."""

    folder: Path
    layout: str
    views: list[View]
    times: Array | None = None  # [T] ascending; None = frame number / fps
    times_are_fractions: bool = False  # times run from 0 to 1 over a clip of unknown length
    fps: float | None = None
    background: tuple[float, float, float] | None = None
    points: Array | None = None  # [P, 3]
    point_colors: Array | None = None  # [P, 3] in 0..1
    near: float | None = None
    far: float | None = None
    near_far_from: str = ""  # the file that says near and far
    test_views: list[str] = field(default_factory=list[str])
    train_views: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    files: list[Path] = field(default_factory=list[Path])  # descriptions, for the fingerprint
    scale_done: float = 1.0  # the stored pictures are already this fraction of the capture's size


def assemble(capture: Capture, options: LoadOptions) -> MultiViewVideo:
    """The checked video. InputError names the file or view that cannot be used."""
    views, warnings = capture.views, list(capture.warnings)
    title = printable(capture.folder.name)
    if not views:
        raise InputError("CAP-001", f"{title} holds no views; at least one camera with pictures is needed.")
    if len(views) > MOST_VIEWS:
        raise InputError("CAP-002", f"{title} lists {len(views):,} views; at most {MOST_VIEWS:,} are read.")
    _check_names(views)
    check_near_far(capture.near, capture.far, capture.near_far_from or title)
    poses = np.stack([rigid(v.world_to_camera, v.where) for v in views])
    for view in views:
        _check_images(view)
        check_intrinsics(view.K, view.size, view.where)
    times = _times(capture, options, warnings)
    chosen = _chosen(len(times), options, title)
    views_kept, sources, sizes, matrices = [], [], [], []
    handles = Handles()
    for i, view in enumerate(views):
        scale = min(1.0, options.scale / capture.scale_done)
        size = (max(1, round(view.size[0] * scale)), max(1, round(view.size[1] * scale)))
        K, lens = _lens(view, size)
        source = _source(view, chosen, size, lens, handles)
        if source is not None:
            views_kept.append(i)
            sources.append(source)
            sizes.append(size)
            matrices.append(K)
    names = [views[i].name for i in views_kept]
    available = torch.zeros(len(names), len(chosen), dtype=torch.bool)
    for v, source in enumerate(sources):
        available[v, source.moments()] = True
    used = available.any(dim=0)
    if not used.any():
        raise InputError(
            "CAP-003", f"{title}: no view has a picture in the frames asked for; choose other frames."
        )
    _say_who_lacks_frames(available, names, warnings)
    train, test = _hold_out(capture, options, names)
    uses_masks = options.background != "keep"  # a mask cuts the subject out of its picture
    has_masks = uses_masks and any(_has_mask(views[i]) for i in views_kept)
    return MultiViewVideo(
        name=title,
        cameras=Cameras(
            torch.as_tensor(poses[views_kept]),
            torch.as_tensor(np.stack(matrices)),
            tuple(sizes),
            tuple(names),
        ),
        times=torch.as_tensor(times[list(chosen)]),
        available=available,
        source=FrameStore(sources, options.cache_megabytes, capture.files, uses_masks),
        background=_background(capture, options),
        points=None if capture.points is None else torch.as_tensor(capture.points).float(),
        point_colors=None if capture.point_colors is None else torch.as_tensor(capture.point_colors).float(),
        near=capture.near,
        far=capture.far,
        train_views=train,
        test_views=test,
        has_masks=has_masks,
        fps=(options.frames_per_second or capture.fps or 0) / options.frame_step or None,
        layout=capture.layout,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _check_names(views: list[View]) -> None:
    seen: dict[str, str] = {}
    for view in views:
        if view.name in seen:
            raise InputError(
                "CAP-004",
                f"{view.where}: two views are named '{printable(view.name)}'; give every camera its own name.",
            )
        seen[view.name] = view.where


def _check_images(view: View) -> None:
    """Every picture file exists, has the claimed size and an end; a video has the claimed size."""
    claimed = f"{view.size[0]} × {view.size[1]}"
    if isinstance(view.images, ViewVideo):
        video = view.images
        if video.facts.size != view.size:
            found = f"{video.facts.size[0]} × {video.facts.size[1]}"
            raise InputError(
                "CAP-005",
                f"{view.where} claims {claimed} pixels, {video.name} has {found}; "
                "correct the size and K, or use the video that was calibrated.",
            )
        return
    for image in view.images.values():
        size = images.image_size(image.path, image.name)
        if size != view.size:
            raise InputError(
                "CAP-006",
                f"{image.name} has {size[0]} × {size[1]} pixels, {view.where} claims {claimed}; "
                "correct the size and focal length, or use the pictures that were calibrated.",
            )
        if image.mask is not None:
            width, height = images.image_size(image.mask, image.mask_name)
            if abs(width * size[1] - height * size[0]) > 0.02 * width * size[1]:
                raise InputError(
                    "CAP-007",
                    f"{image.mask_name} has {width} × {height} pixels, its picture {size[0]} × {size[1]}; a mask must "
                    "have the shape of its picture.",
                )


def _times(capture: Capture, options: LoadOptions, warnings: list[str]) -> Array:
    """Seconds of all moments of the capture [T], and the warnings about clips that do not match."""
    videos = [(v.name, v.images) for v in capture.views if isinstance(v.images, ViewVideo)]
    fps = options.frames_per_second or capture.fps
    if capture.times is not None:
        times = np.asarray(capture.times, dtype=np.float64)
        if capture.times_are_fractions and options.frames_per_second and len(times) > 1:
            times = times * ((len(times) - 1) / options.frames_per_second)
        return times
    if videos:
        counts = {name: video.facts.frames for name, video in videos}
        for _, video in videos:
            if video.mask_facts is not None and video.mask_facts.frames < video.facts.frames:
                raise InputError(
                    "CAP-008",
                    f"{video.mask_name} has {video.mask_facts.frames} frames, {video.name} has {video.facts.frames}; "
                    "a mask is needed for every frame.",
                )
        common, longest = min(counts.values()), max(counts.values())
        if common < longest:
            short = [name for name, count in counts.items() if count < longest]
            listed = ", ".join(f"{printable(name)} has {counts[name]} frames" for name in short[:6])
            others = f"the others {longest}" if len(short) <= 6 else f"other views up to {longest}"
            warnings.append(
                f"The clips differ in length: {listed}, {others}; the first {common} frames of each are used. "
                "Check that all cameras started together."
            )
        rates = {name: video.facts.fps for name, video in videos if video.facts.fps > 0}
        if rates and max(rates.values()) > 1.01 * min(rates.values()):
            slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
            warnings.append(
                f"The frame rates differ: {printable(slow)} has {rates[slow]:.4g} frames a second, {printable(fast)} "
                f"{rates[fast]:.4g}; frames with the same number are taken to show the same moment."
            )
        if fps is None:
            fps = float(np.median(list(rates.values()))) if rates else None
    else:
        files = [v.images for v in capture.views if isinstance(v.images, dict)]
        common = max((max(s) + 1 for s in files if s), default=0)
    if not fps:
        fps = 30.0
        warnings.append(
            "No frame rate is stored with these pictures: 30 frames a second are assumed; set frames_per_second "
            "if that is wrong."
        )
    elif capture.fps is None:
        capture.fps = fps
    return np.arange(common) / fps


def _chosen(count: int, options: LoadOptions, title: str) -> range:
    if options.first_frame >= count:
        raise InputError(
            "CAP-009",
            f"{title} has {count} frames: first_frame {options.first_frame} lies beyond the last ({count - 1}).",
        )
    chosen = range(options.first_frame, count, options.frame_step)
    return chosen[: options.frame_count] if options.frame_count else chosen


def _lens(view: View, size: tuple[int, int]) -> tuple[Array, Lens | None]:
    """K of the pictures that come out at `size`, and how they are straightened where the lens bends."""
    K = view.K.astype(np.float64).copy()
    K[0] *= size[0] / view.size[0]
    K[1] *= size[1] / view.size[1]
    if view.distortion.is_identity:
        return K, None
    try:
        new_K = pinhole_inside(K, size, view.distortion)
    except InputError as error:
        raise error.at(view.where) from error
    return new_K, Lens(view.distortion, tuple(K.flatten().tolist()), tuple(new_K.flatten().tolist()))


def _source(
    view: View, chosen: range, size: tuple[int, int], lens: Lens | None, handles: Handles
) -> ViewImages | None:
    if isinstance(view.images, ViewVideo):
        video = view.images
        mask = None
        if video.mask is not None and video.mask_facts is not None:
            mask = VideoFile(video.mask, video.mask_name, video.mask_facts, handles)
        return VideoView(
            VideoFile(video.path, video.name, video.facts, handles), tuple(chosen), size, mask, lens
        )
    at = {index: moment for moment, index in enumerate(chosen)}
    files = {at[index]: image for index, image in view.images.items() if index in at}
    return ImageView(files, size, lens) if files else None


def _has_mask(view: View) -> bool:
    if isinstance(view.images, ViewVideo):
        return view.images.mask is not None or view.images.facts.has_alpha
    first = next(iter(view.images.values()))
    return first.mask is not None or images.has_alpha(first.path, first.name)


def _say_who_lacks_frames(available: torch.Tensor, names: list[str], warnings: list[str]) -> None:
    """In a rig most views have every moment; those that do not are named. A moving camera's views are left alone."""
    counts = available.sum(dim=1)
    total = available.shape[1]
    short = [i for i, n in enumerate(counts.tolist()) if n < total]
    if short and len(short) * 2 < len(names) and total > 1:
        listed = ", ".join(f"{printable(names[i])} has {int(counts[i])}" for i in short[:6])
        warnings.append(
            f"Some views have fewer frames than the {total} of the others: {listed}; they are used where they exist."
        )


def _hold_out(
    capture: Capture, options: LoadOptions, names: list[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of train and test views; the first is empty where it is all the others."""
    if options.hold_out.strip() == "auto":
        wanted, train = capture.test_views, capture.train_views
    else:
        wanted, train = [w.strip() for w in options.hold_out.split(",") if w.strip()], []
        unknown = [w for w in wanted if w not in names]
        if unknown:
            listed = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
            raise InputError(
                "CAP-010", f"hold_out names '{printable(unknown[0])}'; the views are {printable(listed)}."
            )
    index = {name: i for i, name in enumerate(names)}
    test = tuple(sorted({index[w] for w in wanted if w in index}))
    trained = tuple(sorted({index[w] for w in train if w in index}))
    if len(test) == len(names):
        if options.hold_out.strip() != "auto":
            raise InputError("CAP-011", "hold_out names every view; leave some to train on.")
        test = ()
    return trained, test


def _background(capture: Capture, options: LoadOptions) -> torch.Tensor | None:
    colour = capture.background if options.background == "auto" else BACKGROUNDS.get(options.background)
    return None if colour is None else torch.tensor(colour, dtype=torch.float32)
