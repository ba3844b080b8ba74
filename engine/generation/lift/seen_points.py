"""Where points of the world lie in one frame, and whether its depth map shows them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...scene.cameras import Cameras


class SeenPoints(NamedTuple):
    """P points projected into a frame."""

    pixels: Tensor  # [P, 2]
    z: Tensor  # [P] their depth
    inside: Tensor  # [P] bool: in front of the camera and in the image
    row: Tensor  # [P] long of the pixel, clamped into the image
    column: Tensor  # [P] long
    depth: Tensor  # [P] of the depth map at this pixel, NaN where unknown

    def agree(self, tolerance: float) -> Tensor:
        """Whether the depth map shows each point: the depths differ by less than this share, [P] bool."""
        return self.inside & ((self.z - self.depth).abs() < tolerance * self.depth)


def seen_points(points: Tensor, depth: Tensor, camera: Cameras) -> SeenPoints:
    """Project points into one frame.

    Args:
        points: [P, 3] in the world.
        depth: The frame's depth [H, W] in world units, NaN where unknown.
        camera: The frame's camera.
    """
    height, width = depth.shape
    pixels, z = camera.project(points, 0)
    column, row = pixels.floor().long().unbind(1)
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    return SeenPoints(pixels, z, inside, row, column, depth[row, column])


def shown_pixels(at: SeenPoints, chosen: Tensor, size: tuple[int, int], share: float) -> Tensor:
    """Pixels [H, W] bool that show a chosen point [P] bool, or have more than this share of such pixels around them."""
    shown = torch.zeros(size)
    shown[at.row[chosen], at.column[chosen]] = 1.0
    # the surface between two patches is shown by both
    around = torch.nn.functional.avg_pool2d(shown[None, None], 3, 1, 1)[0, 0]
    return (shown > 0) | (around > share)
