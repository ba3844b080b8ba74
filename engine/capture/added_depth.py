"""Depth maps that are added to a capture's frames, at the size of its images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..scene import Frame, FrameSource
from ..scene.cameras import Cameras
from .prepared_frames import PreparedFrames


@dataclass(frozen=True, eq=False)
class DepthAdded:
    """A FrameSource whose frames have depth.

    Args:
        frames: The capture's own.
        maps: (view, frame) to a depth map [h, w] float32 of any size, 0 where the depth is unknown.
        cameras: The capture's, for the sizes of its images.
    """

    frames: FrameSource
    maps: Mapping[tuple[int, int], Tensor]
    cameras: Cameras

    def read(self, view: int, moment: int) -> Frame:
        """See FrameSource; frames without a map of their own keep the depth that they have."""
        frame, found = self.frames.read(view, moment), self.maps.get((view, moment))
        if found is None:
            return frame
        width, height = self.cameras.sizes[view]
        sized = torch.nn.functional.interpolate(found[None, None], (height, width), mode="nearest-exact")
        return replace(frame, depth=sized[0, 0])

    @property
    def is_large(self) -> bool:
        """See FrameStore."""
        return bool(getattr(self.frames, "is_large", False))

    @property
    def prepared(self) -> PreparedFrames | None:
        """See FrameStore; the added maps stay in memory."""
        return getattr(self.frames, "prepared", None)

    def fingerprint(self) -> str:
        """See FrameSource; changes with the maps, too."""
        digest = hashlib.sha256(self.frames.fingerprint().encode())
        for pair, found in sorted(self.maps.items(), key=lambda item: item[0]):
            digest.update(f"{pair} {tuple(found.shape)}".encode())
            digest.update(found.contiguous().numpy().tobytes())
        return digest.hexdigest()
