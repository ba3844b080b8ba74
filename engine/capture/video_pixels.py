"""From decoded video frames to RGB as it is shown: color matrix, range, size and orientation, in this one place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hdr import to_sdr, to_signal
from .video_file import VideoFacts

Array = NDArray[Any]

# color range of H.273, as FFmpeg numbers it
FULL_RANGE = 2


def to_pixels(
    frame: Any, facts: VideoFacts, size: tuple[int, int] | None = None, alpha: bool = False
) -> Array:
    """A decoded frame as it is shown.

    Args:
        frame: A PyAV VideoFrame, as `VideoFile.read` gives it.
        facts: What `probe` found out about the frame's video.
        size: (width, height) to resample to by area; the video's own where it is None.
        alpha: Whether to return its alpha too.

    Returns:
        [H, W, 3] uint8 RGB, or [H, W, 4] with straight alpha.
    """
    stored = facts.orientation.exchanged(size or facts.size)
    if not facts.transfer:
        return facts.orientation.apply(_reformat(frame, stored, "rgba" if alpha else "rgb24"))
    values = to_sdr(_signal(frame, stored), facts.transfer, facts.primaries)
    if alpha:
        values = np.concatenate([values, _reformat(frame, stored, "rgba")[..., 3:]], axis=2)
    return facts.orientation.apply(values)


def to_mask_pixels(frame: Any, facts: VideoFacts, size: tuple[int, int] | None = None) -> Array:
    """A decoded frame of a mask video as [H, W, 3] uint8. Its values do not measure light, so they are not tone-mapped."""
    return to_pixels(frame, replace(facts, transfer=""), size)


def to_grey(frame: Any, facts: VideoFacts, size: tuple[int, int] | None = None) -> Array:
    """A decoded frame of a mask video that this pack wrote as [H, W] uint8, 255 = subject."""
    return np.ascontiguousarray(to_mask_pixels(frame, facts, size)[..., 1])


def _signal(frame: Any, size: tuple[int, int]) -> Array:
    """R'G'B' [H, W, 3] uint16 of a frame of 8 to 16 bits, resampled as `_reformat` does."""
    is_rgb = bool(frame.format.is_rgb)
    made = _resized(frame, size, "gbrp16le" if is_rgb else "yuv444p16le")
    planes = np.stack(
        [np.frombuffer(p, "<u2").reshape(size[1], -1)[:, : size[0]] for p in made.planes[:3]], axis=-1
    )
    if is_rgb:
        return planes[..., [2, 0, 1]]
    return to_signal(planes, int(frame.colorspace), int(frame.color_range) == FULL_RANGE)


def _reformat(frame: Any, size: tuple[int, int], pixel_format: str) -> Array:
    """Untagged video is BT.709 from 720 lines up and BT.601 below, as players take it."""
    source: Any = frame.colorspace
    if int(source) in (0, 2):
        source = "ITU709" if frame.height >= 720 else "ITU601"
    return _resized(frame, size, pixel_format, src_colorspace=source).to_ndarray()


def _resized(frame: Any, size: tuple[int, int], pixel_format: str, **more: Any) -> Any:
    same = (frame.width, frame.height) == size
    return frame.reformat(
        width=size[0],
        height=size[1],
        format=pixel_format,
        interpolation="BICUBIC" if same else "AREA",
        **more,
    )
