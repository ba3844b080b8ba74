"""From decoded video frames to RGB as it is shown: color matrix, range, size and orientation, in this one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .video_file import VideoFacts

Array = NDArray[Any]


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
    return facts.orientation.apply(_reformat(frame, stored, "rgba" if alpha else "rgb24"))


def to_grey(frame: Any, facts: VideoFacts, size: tuple[int, int] | None = None) -> Array:
    """A decoded frame of a mask video as [H, W] uint8, 255 = subject."""
    return np.ascontiguousarray(to_pixels(frame, facts, size)[..., 1])


def _reformat(frame: Any, size: tuple[int, int], pixel_format: str) -> Array:
    """Untagged video is BT.709 from 720 lines up and BT.601 below, as players take it."""
    source: Any = frame.colorspace
    if int(source) in (0, 2):
        source = "ITU709" if frame.height >= 720 else "ITU601"
    same = (frame.width, frame.height) == size
    made = frame.reformat(
        width=size[0],
        height=size[1],
        format=pixel_format,
        src_colorspace=source,
        interpolation="BICUBIC" if same else "AREA",
    )
    return made.to_ndarray()
