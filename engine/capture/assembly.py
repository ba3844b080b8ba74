"""From what a reader describes to a MultiViewVideo: checked, scaled and cut to the chosen frames in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import InputError
from ..files import images
from ..files.paths import printable
from ..scene.cameras import Cameras
from ..scene.video import MultiViewVideo, Tracks
from .camera_checks import check_intrinsics, check_near_far, checked_pose
from .coordinates import placed
from .depth_maps import DepthFile
from .description import Array, Capture, View, ViewVideo
from .frames import FrameStore
from .options import BACKGROUNDS, LoadOptions
from .prepared_folder import PreparedFolder
from .timing import capture_times
from .undistort import pinhole_inside
from .value_survey import ValueReading, survey_values
from .video_file import Handles, VideoFile
from .video_remarks import video_notes, video_warnings
from .view_images import ImageView, Lens, VideoView, ViewImages

MOST_VIEWS = 100_000


def assemble(
    capture: Capture, options: LoadOptions, prepared: PreparedFolder | None = None
) -> MultiViewVideo:
    """Check what a reader found and make the video from it.

    Args:
        capture: The cameras and files that a reader describes.
        options: Scale, frames, background and held-out views.
        prepared: Where frames of a large capture may be prepared; None reads all from the capture's files.

    Returns:
        The video with its cameras at the chosen scale; frames are decoded when they are read.

    Raises:
        InputError: Names the file or view that cannot be used.
    """
    warnings = list(capture.warnings)
    title = printable(capture.folder.name)
    coordinates: list[str] = []
    poses = _checked_poses(capture, title)
    world = placed(capture, poses, warnings, coordinates)
    times = capture_times(capture, options, warnings)
    videos = capture.videos()
    warnings += video_warnings(videos, has_images=len(videos) < len(capture.views))
    chosen = _chosen(len(times), options, title)
    # a mask cuts the subject out of its image
    uses_masks = options.background != "keep"
    reading = survey_values(capture.views, uses_masks)
    warnings += reading.warnings
    kept = _readable(capture, chosen, options, reading)
    # scenes keep them, and every file that holds a scene must be able to
    names = tuple(printable(capture.views[i].name) for i in kept.views)
    available = _availability(kept.sources, len(chosen), title)
    if not capture.is_paired:
        _warn_about_gaps(available, names, warnings)
    train, test = _hold_out(capture, options, names)
    depths = _depths(capture, kept, chosen, warnings)
    tracks = _tracks(capture, kept, chosen, len(times), warnings)
    return MultiViewVideo(
        name=title,
        cameras=Cameras(
            torch.as_tensor(world.poses[kept.views]),
            torch.as_tensor(np.stack(kept.matrices)),
            tuple(kept.sizes),
            names,
            world.origin,
        ),
        times=torch.as_tensor(times[list(chosen)]),
        available=available,
        source=FrameStore(kept.sources, options.cache_megabytes, capture.files, uses_masks, depths, prepared),
        background=_background(capture, options, reading),
        points=_float(world.points),
        point_colors=None if world.points is None else _float(capture.point_colors),
        near=capture.near,
        far=capture.far,
        train_views=train,
        test_views=test,
        has_masks=any(reading.has_masks(capture.views[i]) for i in kept.views),
        fps=(options.frames_per_second or capture.fps or 0) / options.frame_step or None,
        layout=capture.layout,
        test_moments=_held_moments(capture, chosen, options),
        has_depths=any(depths),
        tracks=tracks,
        warnings=tuple(dict.fromkeys(warnings)),
        notes=(*capture.notes, *coordinates, *video_notes(videos), *reading.notes),
    )


def _checked_poses(capture: Capture, title: str) -> Array:
    """world_to_camera [V, 4, 4] of all views as written, after their names, bounds, images and intrinsics were checked."""
    views = capture.views
    if not views:
        raise InputError("CAP-001", f"{title} contains no views. Add at least one camera with images.")
    if len(views) > MOST_VIEWS:
        raise InputError(
            "CAP-002",
            f"{title} lists {len(views):,} views; at most {MOST_VIEWS:,} are supported. Split the capture.",
        )
    _check_names(views)
    check_near_far(capture.near, capture.far, capture.near_far_from or title)
    poses = np.stack([checked_pose(v.world_to_camera, v.where) for v in views])
    for view in views:
        _check_images(view)
        check_intrinsics(view.K, view.size, view.where)
    return poses


def _float(values: Array | None) -> torch.Tensor | None:
    return None if values is None else torch.as_tensor(values).float()


def _check_names(views: list[View]) -> None:
    seen: dict[str, str] = {}
    for view in views:
        name = printable(view.name)
        if name in seen:
            raise InputError(
                "CAP-004", f"{view.where}: two views are named '{name}'. Give every camera a unique name."
            )
        seen[name] = view.where


def _check_images(view: View) -> None:
    """Every image file exists, has the claimed size and an end; a video has the claimed size."""
    claimed = f"{view.size[0]} × {view.size[1]}"
    if isinstance(view.images, ViewVideo):
        video = view.images
        if video.facts.size != view.size:
            found = f"{video.facts.size[0]} × {video.facts.size[1]}"
            raise InputError(
                "CAP-005",
                f"{view.where} states {claimed} pixels, but {video.name} has {found}. Correct the size and K, "
                "or use the video that was calibrated.",
            )
        return
    for image in view.images.values():
        size = images.image_size(image.path, image.name)
        if size != view.size:
            raise InputError(
                "CAP-006",
                f"{image.name} has {size[0]} × {size[1]} pixels, but {view.where} states {claimed}. Correct "
                "the size and focal length, or use the images that were calibrated.",
            )
        if image.mask is not None:
            width, height = images.image_size(image.mask, image.mask_name)
            if abs(width * size[1] - height * size[0]) > 0.02 * width * size[1]:
                raise InputError(
                    "CAP-007",
                    f"{image.mask_name} has {width} × {height} pixels, but its image has {size[0]} × {size[1]}. A "
                    "mask must have the aspect ratio of its image.",
                )


def _chosen(count: int, options: LoadOptions, title: str) -> range:
    if options.first_frame >= count:
        raise InputError(
            "CAP-009",
            f"{title} has {count} frames, but first_frame is {options.first_frame}. Set it to at most "
            f"{count - 1}.",
        )
    chosen = range(options.first_frame, count, options.frame_step)
    return chosen[: options.frame_count] if options.frame_count else chosen


@dataclass(eq=False)
class _Readable:
    """The views that have images in the chosen frames, with what reads each of them."""

    views: list[int] = field(default_factory=list[int])
    sources: list[ViewImages] = field(default_factory=list[ViewImages])
    sizes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    matrices: list[Array] = field(default_factory=list[Array])


def _readable(capture: Capture, chosen: range, options: LoadOptions, reading: ValueReading) -> _Readable:
    made = _Readable()
    handles = Handles()
    scale = min(1.0, options.scale / capture.scale_done)
    for i, view in enumerate(capture.views):
        size = (max(1, round(view.size[0] * scale)), max(1, round(view.size[1] * scale)))
        K, lens = _lens(view, size)
        source = _source(view, chosen, size, lens, handles, reading)
        if source is not None:
            made.views.append(i)
            made.sources.append(source)
            made.sizes.append(size)
            made.matrices.append(K)
    return made


def _availability(sources: list[ViewImages], count: int, title: str) -> torch.Tensor:
    """Which view has which of the `count` chosen frames: [V, T] bool."""
    available = torch.zeros(len(sources), count, dtype=torch.bool)
    for v, source in enumerate(sources):
        available[v, source.moments()] = True
    if not available.any():
        raise InputError(
            "CAP-003", f"{title}: no view has an image in the selected frames. Select other frames."
        )
    return available


def _depths(
    capture: Capture, kept: _Readable, chosen: range, warnings: list[str]
) -> list[dict[int, DepthFile]]:
    """The depth maps of each view by frame; files that are missing are counted in a warning."""
    at = {index: moment for moment, index in enumerate(chosen)}
    listed = [
        {at[index]: file for index, file in capture.views[i].depths.items() if index in at}
        for i in kept.views
    ]
    found = [{moment: file for moment, file in view.items() if file.path.is_file()} for view in listed]
    missing = [
        file for view, there in zip(listed, found, strict=True) for m, file in view.items() if m not in there
    ]
    if missing:
        warnings.append(
            f"{len(missing)} depth maps are missing, such as {missing[0].name}. These frames have no depth."
        )
    return found


def _tracks(
    capture: Capture, kept: _Readable, chosen: range, count: int, warnings: list[str]
) -> Tracks | None:
    """The tracks in the chosen ones of `count` frames, for the views and sizes that are read."""
    tracks = capture.tracks
    if tracks is None:
        return None
    if capture.is_paired and tracks.views.shape[1] != count:
        warnings.append(
            f"The tracks have {tracks.views.shape[1]} frames, but the capture has {count} after its frames were paired by "
            "time. The tracks are not used."
        )
        return None
    if any(not capture.views[i].distortion.is_identity for i in kept.views):
        warnings.append("The tracks are not used, because they belong to images with lens distortion.")
        return None
    moments = list(chosen)
    views, place = tracks.views[:, moments], torch.full((len(capture.views),), -1)
    place[kept.views] = torch.arange(len(kept.views))
    scales = torch.ones(len(capture.views), 2)
    for i, (width, height) in zip(kept.views, kept.sizes, strict=True):
        scales[i] = torch.tensor([width / capture.views[i].size[0], height / capture.views[i].size[1]])
    return Tracks(
        tracks.pixels[:, moments] * scales[views],
        tracks.visible[:, moments] & (place[views] >= 0),
        place[views].clamp(min=0),
    )


def _lens(view: View, size: tuple[int, int]) -> tuple[Array, Lens | None]:
    """K of the images that come out at `size`, and how they are straightened where the lens bends."""
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
    view: View,
    chosen: range,
    size: tuple[int, int],
    lens: Lens | None,
    handles: Handles,
    reading: ValueReading,
) -> ViewImages | None:
    if isinstance(view.images, ViewVideo):
        video = view.images
        mask = None
        if video.mask is not None and video.mask_facts is not None:
            mask = VideoFile(video.mask, video.mask_name, video.mask_facts, handles)
        numbers = _at_moments(video.numbers, chosen)
        if video.numbers is not None and not numbers:
            return None
        mask_numbers = None if video.mask_numbers is None else _at_moments(video.mask_numbers, chosen)
        file = VideoFile(video.path, video.name, video.facts, handles)
        return VideoView(
            file, numbers, size, mask, lens, reading.mask_videos, reading.uses_alpha, mask_numbers
        )
    at = {index: moment for moment, index in enumerate(chosen)}
    files = {at[index]: image for index, image in view.images.items() if index in at}
    if not files:
        return None
    return ImageView(files, size, lens, reading.mask_files, reading.uses_alpha, reading.white)


def _at_moments(numbers: dict[int, int] | None, chosen: range) -> dict[int, int]:
    """Frame number in the file by chosen frame, where there is one."""
    if numbers is None:
        return dict(enumerate(chosen))
    return {moment: numbers[index] for moment, index in enumerate(chosen) if index in numbers}


def _warn_about_gaps(available: torch.Tensor, names: tuple[str, ...], warnings: list[str]) -> None:
    """In a rig most views have every frame; those that do not are named. A moving camera's views are left alone."""
    counts = available.sum(dim=1)
    total = available.shape[1]
    short = [i for i, n in enumerate(counts.tolist()) if n < total]
    if short and len(short) * 2 < len(names) and total > 1:
        listed = ", ".join(f"{printable(names[i])} has {int(counts[i])}" for i in short[:6])
        warnings.append(
            f"Some views have fewer than the {total} frames of the others: {listed}. Missing frames are skipped."
        )


def _hold_out(
    capture: Capture, options: LoadOptions, names: tuple[str, ...]
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
                "CAP-010",
                f"hold_out names '{printable(unknown[0])}', which is not a view. The views are "
                f"{printable(listed)}.",
            )
    index = {name: i for i, name in enumerate(names)}
    test = tuple(sorted({index[w] for w in wanted if w in index}))
    trained = tuple(sorted({index[w] for w in train if w in index}))
    if len(test) == len(names):
        if options.hold_out.strip() != "auto":
            raise InputError("CAP-011", "hold_out names every view. Leave at least one view for training.")
        test = ()
    return trained, test


def _held_moments(capture: Capture, chosen: range, options: LoadOptions) -> tuple[int, ...]:
    """Which of the chosen frames are held out; none where the options hold out nothing."""
    held = set(capture.test_moments) if options.hold_out.strip() else set[int]()
    return tuple(moment for moment, index in enumerate(chosen) if index in held)


def _background(capture: Capture, options: LoadOptions, reading: ValueReading) -> torch.Tensor | None:
    own = capture.background or (capture.behind_alpha if reading.uses_alpha else None)
    colour = own if options.background == "auto" else BACKGROUNDS.get(options.background)
    return None if colour is None else torch.tensor(colour, dtype=torch.float32)
