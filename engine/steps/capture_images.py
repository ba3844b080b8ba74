"""Capture Images: frames of a capture as an image batch, for nodes that know nothing of captures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields import text, validate
from ..messages import Finished, Preview, Progress, Started, Stream
from ..scene import MultiViewVideo
from ..train.originals import captured_pairs, check_one_size
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "CapturedImages", "Config", "run"]


@dataclass(frozen=True)
class Config:
    views: str = text("all", "Indices of the views, such as '0 2 5-8'; 'all' uses every view.")
    moments: str = text(
        "0", "Indices of the frames, such as '0' or '0 10 20'; 'all' uses every frame.", label="frames"
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class CapturedImages:
    """Images [F, H, W, 3] in 0..1 as they were captured, masks [F, H, W] in 0..1, and (view, frame) of each.

    Images without a mask have one of ones.
    """

    images: Tensor
    masks: Tensor
    pairs: tuple[tuple[int, int], ...]

    def summary(self) -> str:
        """One line about the images."""
        height, width = self.images.shape[1:3]
        views, moments = ({pair[i] for pair in self.pairs} for i in range(2))
        return f"{len(self.pairs)} images of {width}×{height}: {len(views)} views, {len(moments)} frames, frame by frame"


def run(video: MultiViewVideo, config: Config = Config()) -> Stream:
    """Frames of a capture, frame by frame, and all views of each.

    Args:
        video: The capture.
        config: Which views and frames.

    Yields:
        Started, Progress, a Preview of the first image, and Finished with `CapturedImages`.

    Raises:
        InputError: Views or frames that do not exist, or views of different sizes.

    Example:
        images = result(capture_images.run(video, Config(moments="all"))).images
    """
    pairs = captured_pairs(video, config.views, config.moments)
    check_one_size(video, pairs)
    yield Started(len(pairs), f"{len(pairs)} images of {video.name}")
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for done, (view, moment) in enumerate(pairs):
        frame = video.source.read(view, moment)
        images.append(frame.image.float() / 255)
        masks.append(torch.ones(frame.image.shape[:2]) if frame.mask is None else frame.mask.float() / 255)
        yield Progress(done + 1)
    yield Preview(images[0], len(pairs))
    yield Finished(CapturedImages(torch.stack(images), torch.stack(masks), tuple(pairs)))


STEP = Step(
    name="capture_images",
    node="CaptureImages",
    label="Capture Images",
    category="4dgs/load",
    description="Frames of a capture as an image batch, for any other node: depth, masks, a look at the cameras.",
    search=("frames", "views", "capture to image", "extract"),
    config=Config,
    run=run,
    inputs=(Input("video", Kind.CAPTURE, "The capture, from Load Multi-View Video."),),
    outputs=(
        Output(
            "images",
            Kind.IMAGES,
            "The images as they were captured: frame by frame, and all views of each frame.",
            of=lambda made: made.images,
        ),
        Output(
            "masks",
            Kind.MASKS,
            "The capture's masks; white where there are none.",
            "mask",
            of=lambda made: made.masks,
        ),
    ),
    has_device=False,
    note=lambda made: made.summary(),
)
