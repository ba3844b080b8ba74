"""The training's depth and track terms: rendered depth against depth maps, rendered flow against tracked points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from ..losses.geometric import DEPTH_LOSSES, track_loss
from ..render import Picture
from ..scene import Cameras, MultiViewVideo, Tracks
from .config import FitConfig
from .targets import Target

# coverage of a pixel from which its rendered depth and flow count
SMALLEST_ALPHA = 0.5


class GeometryTerms:
    """Both terms of one training; with weights of 0 nothing is rendered, drawn or added.

    Args:
        video: The capture.
        config: Weights and kind of depth loss.
        samples: Views that are trained on, by frame: tracks in other images are not looked at. None: all.

    Raises:
        InputError: A weight is above 0, but the capture has no depth maps or tracks.
    """

    def __init__(
        self, video: MultiViewVideo, config: FitConfig, samples: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        self.config, self.tracks, self.sizes = config, video.tracks, video.cameras.sizes
        if config.depth_weight and not video.has_depths:
            raise InputError(
                "TRN-036",
                f"The depth weight is {config.depth_weight:g}, but {video.name} has no depth maps; set it to 0, or load a "
                "capture with depth.",
            )
        if config.track_weight and video.tracks is None:
            raise InputError(
                "TRN-037",
                f"The track weight is {config.track_weight:g}, but {video.name} has no tracks; set it to 0, or load a "
                "capture with tracks.",
            )
        if video.tracks is not None and samples is not None:
            self.tracks = _within(video.tracks, samples, video.views)

    @property
    def wants_depth(self) -> bool:
        return self.config.depth_weight > 0

    def draw_later(self, moments: list[int], moment: int, generator: torch.Generator) -> int | None:
        """Another frame to which the motion from `moment` is followed; None without tracks or without another frame."""
        others = [m for m in moments if m != moment]
        if not self.config.track_weight or not others:
            return None
        return others[int(torch.randint(len(others), (), generator=generator))]

    def later_views(self, views: list[int], moment: int, later: int) -> list[int]:
        """The view that sees most tracks of each of `views` at the later frame; the view itself where there are none."""
        return [self._later_view(view, moment, later) for view in views]

    def _shared(self, view: int, moment: int, later: int) -> Tensor:
        """[P] bool: points that `view` sees at a frame and some view sees at the later one."""
        assert self.tracks is not None
        visible = self.tracks.visible
        return visible[:, moment] & visible[:, later] & (self.tracks.views[:, moment] == view)

    def _later_view(self, view: int, moment: int, later: int) -> int:
        assert self.tracks is not None
        shared = self._shared(view, moment, later)
        return int(self.tracks.views[shared, later].mode().values) if bool(shared.any()) else view

    def loss(
        self,
        rendered: Picture,
        targets: list[Target],
        views: list[int],
        rig: Cameras,
        moment: int,
        later: int | None,
    ) -> Tensor | None:
        """The weighted terms of a group of views, averaged over them; None with weights of 0.

        Args:
            rendered: The views, with depth if `wants_depth`, and with flow if `later` is a frame.
            targets: Their captured images.
            views: Their indices.
            rig: All cameras at the size of the rendered images.
            moment: The frame.
            later: The frame at the end of the flow, or None.
        """
        if not self.wants_depth and later is None:
            return None
        loss = rendered.rgb.new_zeros(())
        for b, (view, target) in enumerate(zip(views, targets, strict=True)):
            if rendered.depth is not None and target.depth is not None:
                known = (target.depth > 0) & (rendered.alpha[b].detach() > SMALLEST_ALPHA)
                known = known if target.mask is None else known & (target.mask > 0.5)
                compare = DEPTH_LOSSES[self.config.depth_loss]
                loss = loss + self.config.depth_weight * compare(
                    rendered.depth[b][known], target.depth[known]
                )
            if rendered.flow is not None and later is not None:
                moved, tracked = self._followed(
                    rendered.flow[b], rendered.alpha[b].detach(), view, rig, moment, later
                )
                loss = loss + self.config.track_weight * track_loss(moved, tracked, rig.sizes[view])
        return loss / len(views)

    def _followed(
        self, flow: Tensor, alpha: Tensor, view: int, rig: Cameras, moment: int, later: int
    ) -> tuple[Tensor, Tensor]:
        """Pixels [P, 2] where the rendered motion ends, and where the points were tracked to."""
        assert self.tracks is not None
        target = self._later_view(view, moment, later)
        chosen = self._shared(view, moment, later) & (self.tracks.views[:, later] == target)
        start = self._pixels(chosen, moment, view, rig).to(flow)
        end = self._pixels(chosen, later, target, rig).to(flow)
        width, height = rig.sizes[view]
        grid = (2 * start / start.new_tensor([width, height]) - 1)[None, None]
        planes = torch.cat([flow.permute(2, 0, 1), alpha[None]])[None]
        # pixel centers are at +0.5, as with align_corners=False
        sampled = torch.nn.functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
        moved, covered = start + sampled[0, :2, 0].T, sampled[0, 2, 0] > SMALLEST_ALPHA
        return moved[covered], end[covered]

    def _pixels(self, chosen: Tensor, moment: int, view: int, rig: Cameras) -> Tensor:
        """Tracked pixels [P, 2] at the size of the rendered images."""
        assert self.tracks is not None
        (width, height), (full_width, full_height) = rig.sizes[view], self.sizes[view]
        return self.tracks.pixels[chosen, moment] * torch.tensor([width / full_width, height / full_height])


def _within(tracks: Tracks, samples: Mapping[int, Sequence[int]], views: int) -> Tracks:
    """Tracks that are visible in the sampled images alone."""
    frames = tracks.visible.shape[1]
    allowed = torch.zeros(views, frames, dtype=torch.bool)
    for moment, seen_by in samples.items():
        allowed[list(seen_by), moment] = True
    return replace(tracks, visible=tracks.visible & allowed[tracks.views, torch.arange(frames)])
