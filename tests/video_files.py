"""Video files made or changed in code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

ONE = 1 << 16
# linear RGB of BT.2020 to BT.709: ITU-R BT.2407
WIDE_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


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


def write_hdr(
    path: Path,
    colors: Sequence[tuple[int, int, int]],
    transfer: str,
    full_range: bool = False,
    frames: int = 2,
    pixel_format: str = "yuv444p10le",
) -> Path:
    """Writes BT.2020 video whose columns show SDR colors (sRGB) with white at 203 cd/m², or at 75 % HLG.

    Formulas of ITU-R BT.2100-2 tables 4, 5 and 6, in the direction that cameras and graders use.
    """
    srgb = np.array(colors) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    wide = linear @ np.linalg.inv(WIDE_TO_709).T
    if transfer == "PQ":
        power = (203 * wide / 10000).clip(0) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        scene = wide * ((np.exp((0.75 - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene.clip(0)), log)
    luma = signal @ (0.2627, 0.6780, 0.0593)
    chroma = [(signal[:, 2] - luma) / 1.8814, (signal[:, 0] - luma) / 1.4746]
    if full_range:
        values = [1023 * luma, *(512 + 1023 * c for c in chroma)]
    else:
        values = [64 + 876 * luma, *(512 + 896 * c for c in chroma)]
    return write_planes(path, values, {"PQ": 16, "HLG": 18}[transfer], 9, full_range, frames, pixel_format)


def write_planes(
    path: Path,
    values: Sequence[np.ndarray],
    transfer: int,
    matrix: int,
    full_range: bool = False,
    frames: int = 2,
    pixel_format: str = "yuv444p10le",
) -> Path:
    """Writes lossless video of 10 bits, 48 lines high, of columns 16 pixels wide with the given Y, Cb and Cr."""
    rows = [np.tile(np.repeat(v.round().astype("<u2"), 16), (48, 1)) for v in values]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = *rows[0].shape, pixel_format
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, matrix
        context.color_range = 2 if full_range else 1
        for i in range(frames):
            frame: Any = av.VideoFrame(stream.width, stream.height, "yuv444p10le")
            frame.colorspace, frame.color_range = matrix, context.color_range
            for plane, row in zip(frame.planes, rows, strict=True):
                padded = np.zeros((len(row), plane.line_size // 2), "<u2")
                padded[:, : row.shape[1]] = row
                plane.update(padded.tobytes())
            frame = frame.reformat(format=pixel_format)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_interlaced(path: Path, bottom_first: bool, frames: int = 40, gop: int = 8) -> Path:
    """Writes video of 96 × 48 whose frame n has a bar of 12 columns at 2n in its first field, at 2n + 1 in its second."""
    with av.open(str(path), "w") as container:
        order = "bff=1" if bottom_first else "tff=1"
        options = {"crf": "4", "preset": "veryfast", "x264-params": order}
        stream: Any = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        stream.codec_context.gop_size = gop
        for i in range(frames):
            image = np.full((48, 96, 3), 60, np.uint8)
            for field in range(2):
                rows = image[(1 - field if bottom_first else field) :: 2]
                rows[:, 2 * i + field : 2 * i + field + 12] = 230
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
