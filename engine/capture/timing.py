"""When the frames of a capture were taken, and warnings where its videos do not match each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..files.paths import printable
from .description import Array, Capture, View, ViewVideo
from .options import LoadOptions
from .pairing import SECOND, Pairing, findings, matched, pair
from .video_pairing import pair_videos

# frames per second where a capture stores none: what phones and most video cameras record, and Neu3D's and HyperNeRF's
# rate. Head captures have one of their own (heads/motion.py)
USUAL_FPS = 30.0
# how far a rate may be from the stated one to be the same
SAME_RATE = 1.02


def capture_times(capture: Capture, options: LoadOptions, warnings: list[str]) -> Array:
    """Seconds of all frames of the capture [T] float64; adds to `warnings`, and fills in `capture.fps`."""
    if capture.times is not None:
        return _given_times(capture.times, capture.times_are_fractions, options)
    videos = {v.name: v.images for v in capture.views if isinstance(v.images, ViewVideo)}
    if capture.time_unit:
        times = _times_in_names(capture, options, warnings)
        if not videos:
            return times
    fps = options.frames_per_second or capture.fps
    if videos:
        _check_mask_lengths(videos)
        paired = pair_videos({name: video.facts.nanoseconds() for name, video in videos.items()}, warnings)
        if paired is not None:
            return _times_of_videos(capture, paired, options, warnings)
        count = _common_length(videos, warnings)
        rates = _frame_rates(videos, warnings)
        if fps is None:
            fps = float(np.median(rates)) if rates else None
    else:
        files = [v.images for v in capture.views if isinstance(v.images, dict)]
        count = max((max(numbers) + 1 for numbers in files if numbers), default=0)
    if not fps:
        fps = USUAL_FPS
        warnings.append(
            f"No frame rate is stored with these images, so {USUAL_FPS:g} fps is assumed. Set frames_per_second to correct it."
        )
    elif capture.fps is None:
        capture.fps = fps
    return np.arange(count) / fps


def _given_times(times: Array, are_fractions: bool, options: LoadOptions) -> Array:
    times = np.asarray(times, dtype=np.float64)
    if are_fractions and options.frames_per_second and len(times) > 1:
        return times * ((len(times) - 1) / options.frames_per_second)
    return times


def _times_in_names(capture: Capture, options: LoadOptions, warnings: list[str]) -> Array:
    """Pair images by the times in their names."""
    stamps = [sorted(view.images) if isinstance(view.images, dict) else [] for view in capture.views]
    paired = pair(stamps)
    rate = SECOND / paired.period
    capture.notes.append(
        f"The numbers in image names are read as times ({capture.time_unit}): {len(paired.times)} frames, about "
        f"{rate:.4g} per second."
    )
    for v, frames in enumerate(paired.frames):
        capture.views[v] = _renumbered(capture.views[v], {stamps[v][i]: m for m, i in frames.items()})
    warnings += findings([view.name for view in capture.views], stamps, paired)
    capture.is_paired = True
    return _paired_times(capture, paired, options, warnings)


def _times_of_videos(capture: Capture, paired: Pairing, options: LoadOptions, warnings: list[str]) -> Array:
    """Frames of videos, and their masks and depth maps, by the moments that they show."""
    frames = iter(paired.frames)
    for v, view in enumerate(capture.views):
        if isinstance(view.images, ViewVideo):
            numbers = next(frames)
            video = replace(view.images, numbers=numbers, mask_numbers=_mask_numbers(view.images, numbers))
            depths = {m: view.depths[n] for m, n in numbers.items() if n in view.depths}
            capture.views[v] = replace(view, images=video, depths=depths)
    capture.is_paired = True
    capture.notes.append(
        f"Frames of the videos are paired by their time stamps: {len(paired.times)} frames, about "
        f"{SECOND / paired.period:.4g} per second; frames of one moment are within {paired.spread / 1e6:.0f} ms."
    )
    return _paired_times(capture, paired, options, warnings)


def _mask_numbers(video: ViewVideo, numbers: dict[int, int]) -> dict[int, int] | None:
    """Frames of a mask video that has more frames than its video, by time; None where they have the same numbers."""
    if video.mask_facts is None or video.mask_facts.frames == video.facts.frames:
        return None
    stamps, masks = video.facts.nanoseconds(), video.mask_facts.nanoseconds()
    at = {stamp: n for n, stamp in enumerate(masks)}
    partner = matched(stamps, masks)
    return {m: at[partner[stamps[n]]] if stamps[n] in partner else n for m, n in numbers.items()}


def _renumbered(view: View, moments: dict[int, int]) -> View:
    """The view with its images and depth maps at other frames; those that have none are left out."""
    assert isinstance(view.images, dict)
    images = {moments[n]: image for n, image in view.images.items() if n in moments}
    depths = {moments[n]: depth for n, depth in view.depths.items() if n in moments}
    return replace(view, images=images, depths=depths)


def _paired_times(capture: Capture, paired: Pairing, options: LoadOptions, warnings: list[str]) -> Array:
    """Seconds [T] from the first moment; at the rate that the options ask for, if they do."""
    rate = SECOND / paired.period
    seconds = (paired.times - paired.times[0]) / SECOND
    if options.frames_per_second:
        return seconds * (rate / options.frames_per_second)
    if capture.fps and max(rate / capture.fps, capture.fps / rate) > SAME_RATE:
        warnings.append(
            f"The capture states {capture.fps:.4g} frames per second, but its time stamps are {rate:.4g} per second. The "
            "time stamps are used; set frames_per_second to correct them."
        )
        capture.fps = None
    capture.fps = capture.fps or rate
    return seconds


def _check_mask_lengths(videos: dict[str, ViewVideo]) -> None:
    for video in videos.values():
        if video.mask_facts is not None and video.mask_facts.frames < video.facts.frames:
            raise InputError(
                "CAP-008",
                f"{video.mask_name} has {video.mask_facts.frames} frames, but {video.name} has "
                f"{video.facts.frames}. Provide a mask for every frame.",
            )


def _common_length(videos: dict[str, ViewVideo], warnings: list[str]) -> int:
    """The number of frames that every video has; a warning where some have more."""
    counts = {name: video.facts.frames for name, video in videos.items()}
    common, longest = min(counts.values()), max(counts.values())
    if common < longest:
        short = [name for name, count in counts.items() if count < longest]
        listed = ", ".join(f"{printable(name)} has {counts[name]} frames" for name in short[:6])
        others = f"the others {longest}" if len(short) <= 6 else f"other views up to {longest}"
        warnings.append(
            f"The videos differ in length: {listed}, {others}. Only the first {common} frames of each are used; "
            "check that all cameras started together."
        )
    return common


def _frame_rates(videos: dict[str, ViewVideo], warnings: list[str]) -> list[float]:
    """The frame rates that the videos state; a warning where they differ."""
    rates = {name: video.facts.fps for name, video in videos.items() if video.facts.fps > 0}
    if rates and max(rates.values()) > 1.01 * min(rates.values()):
        slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        warnings.append(
            f"The frame rates differ: {printable(slow)} has {rates[slow]:.4g} fps, {printable(fast)} has "
            f"{rates[fast]:.4g} fps. Frames with the same index are assumed to show the same time."
        )
    return list(rates.values())
