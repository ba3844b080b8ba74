"""Pre-flight check: checks a multi-view video before training and gives a remedy for each finding.

Nothing is changed. Damaged images, a single camera position or bounds in other units are found here in seconds instead of
after an hour of training.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..capture.findings import (
    SEVERITIES,
    Finding,
    check_bounds,
    check_description,
    check_exposure,
    check_masks,
    check_spread,
)
from ..capture.inspection import SHEET_VIEWS, Light, thumbnail
from ..capture.mask_agreement import Agreement, check_agreement, check_jumps, mask_agreement, small_mask
from ..capture.readers import scene_bounds
from ..errors import InputError
from ..fields import flag, number, validate
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..messages import Finished, Preview, Progress, Started, Stream
from ..scene import MultiViewVideo
from ..train.threads import on_one_thread
from .step import Figure, Input, Kind, Output, Step

# frames whose masks are compared between the views
COMPARED = 3


@dataclass(frozen=True)
class Config:
    """What is checked."""

    moments: int = number(
        3,
        1,
        100,
        "Frames to decode and compare in each view. More finds more and takes longer.",
        step=1,
        label="frames",
    )
    tile: int = number(
        160,
        64,
        512,
        "Width of one view in the contact sheet, in pixels. More shows more detail.",
        step=16,
        label="thumbnail width",
    )
    every_frame: bool = flag(
        False, "Decodes every frame of every view once, to find damaged frames.", label="check every frame"
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Report:
    """All findings about one capture; `can_train` is False where an error was found."""

    name: str
    layout: str
    views: int
    moments: int
    seconds: float
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]]  # corners of the scene's box
    rows: tuple[Finding, ...]
    # [H, W, 3] the contact sheet
    sheet: Tensor = field(default_factory=lambda: torch.zeros(8, 8, 3), repr=False, compare=False)

    @property
    def severity(self) -> str:
        """The worst severity of all findings."""
        return max((row.severity for row in self.rows), key=SEVERITIES.index, default="ok")

    @property
    def can_train(self) -> bool:
        return self.severity != "error"

    def text(self) -> str:
        """The report as lines for a person."""
        width = max(len(row.subject) for row in self.rows)
        lines = [
            f"{self.name} ({self.layout}): {self.views} views × {self.moments} frames, {self.seconds:.2f} s"
        ]
        for row in self.rows:
            lines.append(f"{row.severity.upper():8}{row.subject:{width}}  {row.finding}")
            if row.remedy:
                lines.append(f"{'':8}{'':{width}}  → {row.remedy}")
        count = Counter(row.severity for row in self.rows)
        end = "Ready to train." if self.can_train else "Fix the errors before training."
        lines.append(f"{count['error']} errors, {count['warning']} warnings, {count['note']} notes. {end}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the fields, the worst severity, and whether training can start."""
        shown = asdict(replace(self, sheet=torch.zeros(0)))
        del shown["sheet"]
        return shown | {"severity": self.severity, "can_train": self.can_train}


@on_one_thread
def run(video: MultiViewVideo, config: Config | None = None) -> Stream:
    """Check a capture before training.

    Args:
        video: The capture to check.
        config: How many frames to decode; None uses the defaults.

    Yields:
        Started, Progress, a Preview of the contact sheet [H, W, 3], and Finished with a `Report`.

    Example:
        report = messages.result(preflight.run(load_video(Path("my_capture"))))
        print(report.text())
    """
    config = config or Config()
    yield Started(video.views, f"pre-flight check of {video.views} views × {video.moments} frames")
    light, rows = Light(video), check_description(video)
    tiles: list[Tensor] = []
    names: list[str] = []
    coverage: list[tuple[int, int, float]] = []
    masks: dict[int, dict[int, Tensor]] = {}
    for view in range(video.views):
        for place, moment in enumerate(_sampled(video, view, config)):
            try:
                frame = video.source.read(view, moment)
            except InputError as error:
                rows.append(Finding("error", "files", str(error), "Replace the file, then check again."))
                break
            light.add(view, moment, frame)
            if frame.mask is not None:
                coverage.append((view, moment, float((frame.mask > 127).float().mean())))
                if len(masks) < COMPARED or moment in masks:
                    masks.setdefault(moment, {})[view] = small_mask(frame.mask)
            if place == 0 and len(tiles) < SHEET_VIEWS:
                tiles.append(thumbnail(frame, config.tile, video.background))
                names.append(video.cameras.names[view])
        yield Progress(view + 1)
    rows += check_exposure(video, light.result()) + check_masks(video, coverage) + check_spread(video)
    bounds = scene_bounds(video)
    rows += check_bounds(video, bounds)
    rows += check_jumps(video.cameras.names, coverage)
    rows += check_agreement(video.cameras.names, _agreements(video, masks, bounds))
    shown = torch.zeros(8, 8, 3)
    if tiles:
        shown = as_tensor(sheet([[tile] for tile in tiles], names, tile=config.tile))
        yield Preview(shown, video.views)
    # in the coordinates of the files, as the training's bounds are
    world = bounds.double() + torch.tensor(video.cameras.origin, dtype=torch.float64)
    low, high = ((c[0], c[1], c[2]) for c in world.tolist())
    rows.sort(key=lambda row: -SEVERITIES.index(row.severity))
    seconds = float(video.times[-1] - video.times[0])
    yield Finished(
        Report(video.name, video.layout, video.views, video.moments, seconds, (low, high), tuple(rows), shown)
    )


def _agreements(
    video: MultiViewVideo, masks: dict[int, dict[int, Tensor]], bounds: Tensor
) -> dict[int, Agreement]:
    """How far the masks of frames agree that at least two views have; empty masks are reported elsewhere."""
    full = {m: {v: mask for v, mask in views.items() if bool(mask.any())} for m, views in masks.items()}
    return {
        moment: mask_agreement(video.cameras, views, bounds)
        for moment, views in full.items()
        if len(views) > 1
    }


def _sampled(video: MultiViewVideo, view: int, config: Config) -> list[int]:
    moments = video.available[view].nonzero().flatten().tolist()
    if config.every_frame or len(moments) <= config.moments:
        return moments
    places = torch.linspace(0, len(moments) - 1, max(config.moments, 1)).round().long().tolist()
    return [moments[p] for p in dict.fromkeys(places)]


def summary(report: Report) -> str:
    """The last line of the report, and the worst finding if there is one; short enough for a node."""
    worst = next((row for row in report.rows if row.severity in ("error", "warning")), None)
    lines = [report.text().splitlines()[-1]]
    return "\n".join(lines if worst is None else [*lines, f"{worst.severity}: {worst.finding}"])


STEP = Step(
    name="preflight",
    node="PreflightCheck",
    label="Pre-flight Check",
    category="4dgs/load",
    description="Checks a capture before training and says how to fix what it finds.",
    config=Config,
    run=run,
    inputs=(Input("video", Kind.CAPTURE, "The capture to check."),),
    outputs=(
        Output("report", Kind.REPORT, "The findings as text, for Preview as Text."),
        Output(
            "sheet",
            Kind.IMAGES,
            "Contact sheet: the first frame of each view.",
            "contact sheet",
            of=lambda r: r.sheet[None],
        ),
        Output(
            "ready", Kind.FLAG, "False if an error was found.", "can be trained", of=lambda r: r.can_train
        ),
    ),
    verb="preflight",
    has_device=False,
    figure=Figure.PREVIEW,
    note=summary,
    is_output=True,
)
