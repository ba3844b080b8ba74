"""When the frames of a capture were taken, and warnings where its videos do not match each other."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..files.paths import printable
from .description import Array, Capture, ViewVideo
from .options import LoadOptions

# frames per second where a capture stores none: what phones and most video cameras record, and Neu3D's and HyperNeRF's
# rate. Head captures have one of their own (heads/motion.py)
USUAL_FPS = 30.0


def capture_times(capture: Capture, options: LoadOptions, warnings: list[str]) -> Array:
    """Seconds of all frames of the capture [T] float64; adds to `warnings`, and fills in `capture.fps`."""
    if capture.times is not None:
        return _given_times(capture.times, capture.times_are_fractions, options)
    videos = {v.name: v.images for v in capture.views if isinstance(v.images, ViewVideo)}
    fps = options.frames_per_second or capture.fps
    if videos:
        _check_mask_lengths(videos)
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
