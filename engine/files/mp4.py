"""Writing images as an H.264 video with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from .atomic import check_writable, write_atomically


def check_video(target: Path) -> None:
    """InputError, before anything is rendered, where no mp4 could be written to `target`."""
    backends.require("av")
    if target.suffix.lower() != ".mp4":
        raise InputError("FIL-020", f"{target.name}: videos are written as .mp4. Name it {target.stem}.mp4.")
    check_writable(target)


def write_mp4(images: Iterable[Tensor], fps: float, target: Path, crf: int = 18) -> Path:
    """Images [H, W, 3] in 0..1 as an mp4 that every browser plays (yuv420p); odd sizes lose their last row or column.

    Written to a temporary name first. `crf`: 0 is lossless, 23 is usual, more is smaller. Raises InputError.
    """
    with mp4_writer(fps, target, crf) as add:
        for image in images:
            add(image)
    return target


@contextmanager
def mp4_writer(fps: float, target: Path, crf: int = 18) -> Generator[Callable[[Tensor], None]]:
    """Give a function that adds an image [H, W, 3] to an mp4, so that no more than the encoder's own frames are in memory.

    When the block ends well, `target` is the file that `write_mp4` makes of the same images; otherwise nothing is left.
    """
    check_video(target)
    import av

    with write_atomically(target) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream: Any = None

        def add(image: Tensor) -> None:
            nonlocal stream
            height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
            if not height or not width:
                raise InputError(
                    "FIL-021",
                    f"Images of {image.shape[1]} × {image.shape[0]} pixels are too small for a video. Use at "
                    "least 2 × 2.",
                )
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": str(crf)}
            pixels = (
                (image[:height, :width].clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous().numpy()
            )
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)

        yield add
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)
