"""Align Depth: relative depth maps in the units of a metric reference, as Diff4Splat prepares real videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import choice, validate
from ..geometry.depth_alignment import KINDS, Line
from ..geometry.depth_alignment import align_depth as fit
from ..geometry.depth_maps import read_depth_maps
from ..scene.cameras import have_one_shape
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "AlignedMaps", "Config", "make"]

# share of the pixels that must have both depths
LEAST_SHARE = 0.01
# spread, relative to the mean, of a constant map
CONSTANT = 1e-4


@dataclass(frozen=True)
class Config:
    fits: str = choice(
        "clip",
        ("clip", "frame"),
        "One scale and shift for the whole clip, which keeps it steady, or one for each frame, for depth whose scale jumps.",
        label="scale and shift per",
    )
    kind: str = choice(
        "auto",
        ("auto", *KINDS),
        "What the depth maps contain: depth grows with the distance, disparity with its inverse, inverted falls linearly "
        "with the distance. auto takes the one that fits best.",
        label="depth is",
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class AlignedMaps:
    """Depth maps [F, H, W] in the reference's units, 0 where the depth is unknown, and what was done."""

    depth: Tensor
    kind: str
    lines: tuple[Line, ...]
    error: float
    notes: tuple[str, ...]

    def text(self) -> str:
        """The report: what was recognized, the fit, and remarks."""
        formula = "1 / depth" if self.kind == "disparity" else "depth"
        lines = [
            f"{'' if len(self.lines) == 1 else f'frame {i}: '}{formula} = {line.scale:.6g} × value + {line.shift:.6g}"
            for i, line in enumerate(self.lines)
        ]
        difference = f"median difference from the reference: {100 * self.error:.2g} %"
        return "\n".join([f"The maps contain {self.kind}.", *self.notes, difference, *lines])

    def summary(self) -> str:
        """The notes for the node, without the line of every frame."""
        return "\n".join(self.text().splitlines()[: 2 + len(self.notes)])


def make(depth: Any, reference: Any, config: Config = Config(), masks: Tensor | None = None) -> AlignedMaps:
    """Depth maps in the units of a metric reference, by robust least squares of a scale and a shift.

    Args:
        depth: Images [F, H, W, 3], maps [F, H, W], or a dictionary with `depth` and perhaps `mask` and `sky`, as depth nodes
            give it. 0 is unknown.
        reference: Metric depth in one of these forms; other sizes are resized.
        config: Per clip or per frame, and what the maps contain.
        masks: [F, H, W]; where they are 0, the depths are not compared.

    Raises:
        InputError: Another number or aspect ratio of maps, constant or missing values, or maps that run against
            what `config` says.

    Example:
        metric = align_depth.make(relative, moge_geometry).depth
    """
    values, metric = read_depth_maps(depth), read_depth_maps(reference, "reference")
    # Lift Video to 4D and captures read 0 as unknown, too
    values = torch.where(values == 0, torch.nan, values)
    frames, height, width = values.shape
    for what, other in (("reference", metric), ("mask", masks)):
        if other is not None and len(other) not in (1, frames):
            raise InputError(
                "STP-069",
                f"The {what} has {len(other)} frames, but there are {frames} depth maps; connect one for each, or a single one.",
            )
    notes: list[str] = []
    tall, wide = metric.shape[1:]
    if (tall, wide) != (height, width):
        if not have_one_shape((wide, tall), (width, height)):
            raise InputError(
                "STP-087",
                f"The reference is {wide}×{tall}, but the depth maps are {width}×{height}, which is another aspect ratio. Make "
                "both from the same frames, without cropping.",
            )
        notes.append(f"The reference was resized from {wide}×{tall} to {width}×{height}.")
    metric = _resized(metric, height, width).expand(frames, height, width)
    known = torch.isfinite(values) & torch.isfinite(metric) & (metric > 0)
    infinite = 1 - float((torch.isfinite(values) & torch.isfinite(metric)).float().mean())
    if infinite > 0:
        notes.append(
            f"{100 * infinite:.2g} % of the pixels have unknown or infinite depth (sky) and were left out."
        )
    if masks is not None:
        known &= _resized(masks.float(), height, width).expand(frames, height, width) > 0.5
    _check(values, metric, known, config.fits == "frame")
    kind = "" if config.kind == "auto" else config.kind
    made = fit(torch.nan_to_num(values, 0, 0, 0), metric, known, config.fits == "frame", kind)
    if made.error == float("inf"):
        remedy = "set 'depth is' to auto, or connect" if kind else "connect"
        raise InputError(
            "STP-070",
            f"The depth maps do not fit the reference as {kind or 'depth, disparity or inverted depth'}: their values change in "
            f"the opposite direction; {remedy} depth of the same frames.",
        )
    depths = torch.where(torch.isfinite(values), made.depth, torch.zeros(()))
    return AlignedMaps(depths, made.kind, made.lines, made.error, tuple(notes))


def _resized(maps: Tensor, height: int, width: int) -> Tensor:
    if tuple(maps.shape[1:]) == (height, width):
        return maps
    return torch.nn.functional.interpolate(maps[:, None], (height, width), mode="nearest-exact")[:, 0]


def _check(values: Tensor, metric: Tensor, known: Tensor, per_frame: bool) -> None:
    """Raise InputError where a fit would have nothing to go by."""
    groups = [slice(i, i + 1) for i in range(len(values))] if per_frame else [slice(0, len(values))]
    for i, group in enumerate(groups):
        where, chosen = f"frame {i}" if per_frame else "the clip", known[group]
        if float(chosen.float().mean()) < LEAST_SHARE:
            remedy = "enlarge the mask" + (", or set 'scale and shift per' to clip" if per_frame else "")
            raise InputError(
                "STP-072",
                f"Only {int(chosen.sum())} pixels of {where} have a known depth in both maps; {remedy}.",
            )
        for what, maps in (("depth", values), ("reference", metric)):
            found = maps[group][chosen]
            if float(found.std()) <= CONSTANT * float(found.abs().mean()):
                raise InputError(
                    "STP-073",
                    f"The {what} is constant in {where} ({float(found.mean()):.4g}); connect depth maps of the same video.",
                )


STEP = Step(
    name="align_depth",
    node="AlignDepth",
    label="Align Depth",
    category="4dgs/generate",
    description="Brings relative depth or disparity maps to the units of a metric reference: a scale and a shift by robust "
    "least squares, per clip or per frame.",
    search=("metric depth", "scale and shift", "disparity", "depth anything", "moge"),
    config=Config,
    run=make,
    inputs=(
        Input(
            "depth",
            Kind.DEPTH,
            "Depth or disparity maps of a video, steady from frame to frame but of unknown scale.",
        ),
        Input(
            "reference",
            Kind.DEPTH,
            "Metric depth of the same frames, or of one of them for all; it may be less steady.",
        ),
        Input(
            "masks",
            Kind.MASKS,
            "White where the two are compared. Without one, all pixels are.",
            id="mask",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "aligned",
            Kind.DEPTH_MAPS,
            "Metric depth as an image batch: distances in the reference's units, not 0 to 1; 0 where it is unknown.",
            "depth",
            of=lambda made: made.depth,
        ),
        Output("report", Kind.REPORT, "Scale, shift and remaining difference as text."),
    ),
    verb="align-depth",
    has_device=False,
    note=lambda made: made.summary(),
)
