"""A lifted clip as a capture of one moving camera, which a training from the lifted scene refines."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ...scene import Cameras, Frame, MultiViewVideo, Tracks
from ...tracking.tracks import ClipTracks


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """Frames of a clip in memory: view t is frame t."""

    images: Tensor  # [T, H, W, 3] uint8
    depth: Tensor  # [T, H, W] float32, 0 where unknown

    def read(self, view: int, moment: int) -> Frame:
        """The frame of a view; see FrameSource."""
        return Frame(self.images[view], depth=self.depth[view])

    def fingerprint(self) -> str:
        """Changes with the pixels and the depth."""
        found = hashlib.sha256()
        for plane in (self.images, self.depth):
            found.update(plane.contiguous().numpy().tobytes())
        return found.hexdigest()


def lifted_capture(
    images: Tensor, depth: Tensor, cameras: Cameras, tracks: ClipTracks, seconds: Tensor
) -> MultiViewVideo:
    """The clip with its cameras, depth and tracks.

    Args:
        images: Frames [T, H, W, 3] in 0..1.
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
        tracks: Points that were followed through the clip.
        seconds: Times [T], float64.

    Returns:
        T views with one frame each.
    """
    frames, points = tracks.visible.shape
    return MultiViewVideo(
        "the lifted video",
        cameras,
        seconds,
        torch.eye(frames, dtype=torch.bool),
        ClipFrames((images * 255).round().byte(), torch.nan_to_num(depth.float())),
        # what no frame shows is a hole, which must not be filled with the color of the images' borders
        background=torch.zeros(3),
        layout="lifted",
        has_depths=True,
        tracks=Tracks(
            tracks.pixels.transpose(0, 1).contiguous(),
            tracks.visible.T.contiguous(),
            torch.arange(frames).expand(points, frames),
        ),
    )
