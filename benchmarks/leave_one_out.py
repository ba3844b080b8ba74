"""Cameras of a capture left out of training in turn: what an orbit shows between the cameras (`fit.py --leave-one-out`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.figures.contact_sheets import sheet
from engine.losses.means import Means
from engine.losses.metrics import decibels
from engine.render import choose, render_gaussians
from engine.scene import MultiViewVideo, Scene4D
from engine.train.targets import composite

# every n-th frame is measured
EVERY = 4
# (scene, seconds, iterations) of a training; see fit.py
Train = Callable[[MultiViewVideo], tuple[Scene4D, float, int]]


@dataclass(frozen=True)
class LeftOut:
    """The row of a camera, or of several that were left out together.

    PSNR in dB as means over frames, of whole images and inside the masks (None without masks).
    """

    view: str
    seconds: float
    trained: float
    left_out: float
    trained_inside: float | None
    left_out_inside: float | None

    def to_json(self) -> dict[str, Any]:
        """The row with its gap, rounded to hundredths."""
        numbers = {
            "trained": self.trained,
            "left_out": self.left_out,
            "gap": self.trained - self.left_out,
            "trained_inside": self.trained_inside,
            "left_out_inside": self.left_out_inside,
        }
        rounded = {name: None if value is None else round(value, 2) for name, value in numbers.items()}
        return {"view": self.view, "seconds": round(self.seconds, 1), **rounded}


@torch.no_grad()
def measured(
    scene: Scene4D, video: MultiViewVideo, views: Sequence[int], every: int = EVERY
) -> dict[str, float]:
    """Mean PSNR in dB of views at every n-th frame: "whole", and "inside" the masks where there are any."""
    means, rasterizer = Means(), choose("auto", "cpu")
    for moment in range(0, video.moments, every):
        now = scene.at(float(video.times[moment]))
        for view in views:
            target = composite(video.source.read(view, moment), scene.background)
            drawn = render_gaussians(now, video.cameras[view], rasterizer, scene.background).rgb[0]
            error = (drawn.clamp(0, 1) - target.image).square().mean(-1)
            means.add("whole", decibels(float(error.mean())))
            if target.mask is not None and float(target.mask.sum()):
                means.add("inside", decibels(float((error * target.mask).sum() / target.mask.sum())))
    return means.rounded()


@torch.no_grad()
def pair(scene: Scene4D, video: MultiViewVideo, view: int) -> list[Tensor]:
    """The captured image of a view at the middle frame, and the render below it; both [H, W, 3]."""
    moment = video.moments // 2
    now = scene.at(float(video.times[moment]))
    drawn = render_gaussians(now, video.cameras[view], choose("auto", "cpu"), scene.background).rgb[0]
    return [composite(video.source.read(view, moment), scene.background).image, drawn.clamp(0, 1)]


def leave_one_out(
    video: MultiViewVideo,
    groups: Sequence[Sequence[int]],
    train: Train,
    picture: Path | None,
    every: int = EVERY,
) -> dict[str, Any]:
    """Train without each of the `groups` of views in turn.

    Args:
        video: The capture; its own test views take part like all others.
        groups: Indices of the cameras to leave out together; one each, or several for wider gaps.
        train: Trains a capture without its test views.
        picture: Where to write a contact sheet of the left-out views: captured above, rendered below. None writes none.
        every: Every n-th frame is measured.

    Returns:
        The rows, and the means over them.
    """
    rows: list[LeftOut] = []
    stacks: list[list[Tensor]] = []
    captions: list[str] = []
    for group in map(tuple, groups):
        others = tuple(each for each in range(video.views) if each not in group)
        scene, seconds, _ = train(replace(video, train_views=others, test_views=group))
        seen, unseen = (measured(scene, video, chosen, every) for chosen in (others, group))
        inside = seen.get("inside"), unseen.get("inside")
        names = [video.cameras.names[view] for view in group]
        rows.append(LeftOut(" ".join(names), seconds, seen["whole"], unseen["whole"], *inside))
        stacks += [pair(scene, video, view) for view in group]
        captions += [f"{name}: {rows[-1].left_out:.1f} dB" for name in names]
        print(rows[-1].to_json(), file=sys.stderr, flush=True)
    if picture is not None:
        sheet(stacks, captions, title="Left-out views: captured and rendered").save(picture)
    table = [row.to_json() for row in rows]
    numbers = [name for name in table[0] if name != "view"]
    return {"rows": table, "means": {name: _mean([row[name] for row in table]) for name in numbers}}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 2) if known else None
