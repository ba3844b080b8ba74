"""Add Depth Maps: depth of a capture's images becomes part of the capture, so that training can use it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..capture.added_depth import DepthAdded
from ..errors import InputError
from ..fields import choice, text, validate
from ..geometry.depth_maps import read_depth_maps
from ..messages import Finished, Progress, Started, Stream
from ..scene import MultiViewVideo
from ..scene.cameras import have_one_shape
from ..train.normalization import subject_bounds
from ..train.originals import captured_pairs
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# of the disparities of the subject, in 0..1: they lie at the far and at the near end of its box
ENDS = (0.02, 0.98)
# nearest depth, as a part of the farthest one
NEAREST = 0.02
# values that a quantile looks at
SOME = 100_000


@dataclass(frozen=True)
class Config:
    views: str = text("all", "Indices of the views, such as '0 2 5-8'; 'all' uses every view.")
    moments: str = text(
        "0", "Indices of the frames, such as '0' or '0 10 20'; 'all' uses every frame.", label="frames"
    )
    kind: str = choice(
        "auto",
        ("auto", "depth", "disparity"),
        "What large values mean: depth (far) or disparity (near). auto takes images for disparity, as depth nodes draw them, and "
        "geometry for depth.",
        label="depth is",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(video: MultiViewVideo, depth: Any, config: Config = Config()) -> Stream:
    """A capture with depth maps of some of its frames.

    Args:
        video: The capture.
        depth: Images [F, h, w, 3], maps [F, h, w], or a dictionary with `depth`, as depth nodes give it, of the chosen images:
            frame by frame, and all views of each.
        config: Which views and frames, and what the values mean.

    Yields:
        Started, Progress, and Finished with the `MultiViewVideo`, whose depth maps have any scale and shift.

    Raises:
        InputError: Another number or shape of maps than of images, or maps without values.

    Example:
        deep = result(add_depth.run(video, maps, Config(moments="all", kind="depth")))
    """
    pairs = captured_pairs(video, config.views, config.moments)
    values = read_depth_maps(depth)
    if len(values) != len(pairs):
        raise InputError(
            "STP-091",
            f"There are {len(values)} depth maps, but the chosen views and frames of {video.name} have {len(pairs)} images. "
            "Choose the same views and frames as in Capture Images.",
        )
    height, width = values.shape[1:]
    for view in sorted({v for v, _ in pairs}):
        if not have_one_shape((width, height), video.cameras.sizes[view]):
            w, h = video.cameras.sizes[view]
            raise InputError(
                "STP-092",
                f"The depth maps are {width}×{height}, but view {video.cameras.names[view]} has images of {w}×{h}, which is "
                "another aspect ratio. Make the depth from the same images, without cropping.",
            )
    kind = config.kind if config.kind != "auto" else "depth" if isinstance(depth, Mapping) else "disparity"
    yield Started(len(pairs), f"{len(pairs)} depth maps, {kind}")
    box = None
    if kind == "disparity":
        box = subject_bounds(video, tuple(range(video.views)), list(range(video.moments)))
    maps: dict[tuple[int, int], Tensor] = {}
    for done, ((view, moment), each) in enumerate(zip(pairs, values, strict=True)):
        known = each.isfinite() if box is not None else each.isfinite() & (each > 0)
        if not bool(known.any()):
            raise InputError(
                "STP-093",
                f"The depth map of view {video.cameras.names[view]} at frame {moment} has no values; make it again.",
            )
        found = each if box is None else _from_disparity(video, view, moment, each, box)
        maps[view, moment] = torch.where(known, found, 0.0).float()
        yield Progress(done + 1)
    source = DepthAdded(video.source, maps, video.cameras)
    note = (
        f"{len(maps)} depth maps of {width}×{height} were added, read as {kind}; set depth weight in Training Settings (0.05) to "
        "train with them."
    )
    yield Finished(replace(video, source=source, has_depths=True, notes=(*video.notes, note)))


def _from_disparity(video: MultiViewVideo, view: int, moment: int, values: Tensor, box: Tensor) -> Tensor:
    """Depth [h, w] of a disparity map of unknown scale and shift: the subject's box bounds it."""
    corners = torch.tensor(list(itertools.product(*box.T.tolist())), dtype=torch.float64)
    _, depths = video.cameras.project(corners, view)
    far = float(depths.max().clamp(min=1e-12))
    near = max(float(depths.min()), NEAREST * far)
    mask = video.source.read(view, moment).mask
    inside = values.isfinite()
    if mask is not None:
        sized = torch.nn.functional.interpolate(mask[None, None].float(), values.shape, mode="nearest-exact")
        subject = inside & (sized[0, 0] > 127)
        inside = subject if bool(subject.any()) else inside
    chosen = values[inside]
    low, high = chosen[:: max(1, len(chosen) // SOME)].quantile(torch.tensor(ENDS)).tolist()
    share = (values - low) / max(high - low, 1e-12)
    inverse = 1 / far + share * (1 / near - 1 / far)
    return 1 / inverse.clamp(1 / (2 * far), 2 / near)


STEP = Step(
    name="add_depth",
    node="AddDepth",
    label="Add Depth Maps",
    category="4dgs/load",
    description="Adds depth maps of a capture's images to it. Training then follows them (depth weight), which helps most where "
    "few cameras stand far apart.",
    search=("depth prior", "depth anything", "moge", "sparse views", "few views"),
    config=Config,
    run=run,
    inputs=(
        Input("video", Kind.CAPTURE, "The capture, from Load Multi-View Video."),
        Input(
            "depth",
            Kind.DEPTH,
            "Depth of the images from Capture Images, with the same views and frames: depth images, or the geometry of a Depth "
            "Anything 3 or MoGe node. Scale and shift may differ from image to image.",
        ),
    ),
    outputs=(Output("video_out", Kind.CAPTURE, "The capture with depth, for Train 4D Scene.", "video"),),
    has_device=False,
    note=lambda video: video.notes[-1],
)
