"""Which images a training step compares: several views of one frame, drawn from a window of frames that may grow."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..scene import Cameras, MultiViewVideo
from .config import FitConfig
from .draws import generator_at
from .initialization import anchor_moment

# views that must share a frame for "auto" to go outwards from it
SHARED = 4


class FitOrder:
    """The images that a training may use, and those of each step.

    Attributes:
        views: Views that are trained on.
        samples: Views that can be trained on, by frame, ascending; held-out frames are absent.
        anchor: The frame from which the window grows: the one that most views share.
    """

    def __init__(self, video: MultiViewVideo, config: FitConfig, has_start: bool) -> None:
        """`has_start`: training starts from a scene, which knows all frames. Raises InputError where no image is left."""
        self.config, self.has_start = config, has_start
        self.views = video.views_to_train() if config.keeps_test_views_out else tuple(range(video.views))
        self.samples = _samples(video, config, self.views)
        self.anchor = anchor_moment(video, self.views, list(self.samples))

    def moments(self, share: float, has_motion: bool) -> list[int]:
        """Frames that take part after a share of the training: a window around the anchor that grows to the whole video.

        Args:
            share: Fraction of the steps that are done, 0..1.
            has_motion: Whether a motion is trained; a static scene has no order.
        """
        moments, c = list(self.samples), self.config
        at_once = len(self.samples.get(self.anchor, ())) < SHARED or self.has_start
        if c.order == "all at once" or not has_motion or (c.order == "auto" and at_once):
            return moments
        span = max(c.outwards_until - c.coarse_fraction, 1e-9)
        grown = min(max((share - c.coarse_fraction) / span, 0.0), 1.0)
        reach = grown * max(moments[-1] - self.anchor, self.anchor - moments[0])
        return [moment for moment in moments if abs(moment - self.anchor) <= reach]

    def at(self, step: int, share: float, has_motion: bool) -> tuple[int, list[int]]:
        """The frame of a step, and the views of it that the step compares; `share` and `has_motion` as in `moments`."""
        generator = generator_at(self.config.seed, step)
        moments = self.moments(share, has_motion)
        moment = moments[int(torch.randint(len(moments), (), generator=generator))]
        views = self.samples[moment]
        order = torch.randperm(len(views), generator=generator)[: self.config.views_per_step]
        return moment, [views[i] for i in order.tolist()]


def _samples(video: MultiViewVideo, config: FitConfig, views: tuple[int, ...]) -> dict[int, list[int]]:
    every = config.hold_out_every
    held = video.test_moments if config.keeps_test_views_out else ()
    samples: dict[int, list[int]] = {}
    for view, moment in video.samples(views):
        if moment in held or (every and moment % every == every - 1):
            continue
        samples.setdefault(moment, []).append(view)
    if not samples:
        raise InputError(
            "TRN-003",
            f"No image of {video.name} is left to train on; lower hold_out_every or use fewer test views.",
        )
    return dict(sorted(samples.items()))


def by_size(rig: Cameras, views: list[int]) -> list[list[int]]:
    """Views grouped by image size, in order."""
    groups: dict[tuple[int, int], list[int]] = {}
    for view in views:
        groups.setdefault(rig.sizes[view], []).append(view)
    return list(groups.values())
