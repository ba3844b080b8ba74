"""Video files made or changed in code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

ONE = 1 << 16


def set_display_matrix(path: Path, axes: Sequence[float]) -> Path:
    """Writes the part (a, b, c, d) of a display matrix into the track of an .mp4 file, and returns its path."""
    a, b, c, d = (round(ONE * value) for value in axes)
    data = bytearray(path.read_bytes())
    # version and flags, then 36 bytes of times, duration, layer and volume
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


def write_with_alpha(path: Path, codec: str, frames: int = 60, size: tuple[int, int] = (64, 48)) -> Path:
    """Writes a .webm whose alpha opens from the left, one column more each frame, and returns its path.

    Colors change at random in every 13th frame, which makes key frames of colors that are none of alpha.
    """
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuva420p"
        stream.codec_context.gop_size = 10
        image = np.full((size[1], size[0], 4), 100, np.uint8)
        for i in range(frames):
            if i % 13 == 0:
                image[..., :3] = noise.integers(0, 255, image[..., :3].shape)
            image[..., 3] = np.where(np.arange(size[0]) < i, 255, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="yuva420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
