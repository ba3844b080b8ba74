"""Temporal consistency of a rendered video without a network: the flow comes from the scene's own motion."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# pixels by which forward and backward flow may disagree before a pixel counts as hidden
AGREEMENT = 1.0


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample an image at x + flow: bilinear, with the border repeated.

    Args:
        image: [H, W, C].
        flow: [H, W, 2] in pixels.

    Returns:
        [H, W, C].
    """
    h, w = flow.shape[:2]
    y, x = torch.meshgrid(
        torch.arange(h, device=flow.device, dtype=flow.dtype) + 0.5,
        torch.arange(w, device=flow.device, dtype=flow.dtype) + 0.5,
        indexing="ij",
    )
    grid = torch.stack([(x + flow[..., 0]) * 2 / w - 1, (y + flow[..., 1]) * 2 / h - 1], dim=-1)
    found = F.grid_sample(
        image.permute(2, 0, 1)[None],
        grid[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return found[0].permute(1, 2, 0)


def visible_in_both(forward: Tensor, backward: Tensor, covered: Tensor) -> Tensor:
    """Pixels of the later frame that are visible in the earlier one too.

    Args:
        forward: Flow from the earlier frame [H, W, 2], in pixels.
        backward: Flow from the later frame [H, W, 2], in pixels.
        covered: Pixels of the later frame that the scene covers [H, W], bool.

    Returns:
        [H, W] bool.

    Source:
        Forward-backward check of Sundaram et al. 2010, with a fixed threshold of one pixel.
    """
    return covered & ((warp(forward, backward) + backward).norm(dim=-1) < AGREEMENT)


def flow_warp_error(
    earlier: Tensor, later: Tensor, forward: Tensor, backward: Tensor, covered: Tensor
) -> float:
    """Mean absolute difference between the later frame and the warped earlier one, over pixels visible in both.

    Args:
        earlier: [H, W, 3] in 0..1.
        later: [H, W, 3] in 0..1.
        forward: Flow from the earlier frame [H, W, 2], in pixels.
        backward: Flow from the later frame [H, W, 2], in pixels.
        covered: Pixels of the later frame that the scene covers [H, W], bool.

    Returns:
        The error in 0..1; NaN if no pixel is visible in both.
    """
    seen = visible_in_both(forward, backward, covered)
    if not bool(seen.any()):
        return float("nan")
    return float((later - warp(earlier, backward)).abs().mean(dim=-1)[seen].mean())


class StaticRegion:
    """Accumulates the variance over time of static pixels, frame by frame.

    Args:
        still_below: Flow in pixels per frame below which a pixel is static.
    """

    def __init__(self, still_below: float = 0.1) -> None:
        self.still_below = still_below
        self.count = 0
        self.sum: Tensor | None = None
        self.squares: Tensor | None = None
        self.still: Tensor | None = None

    def add(self, image: Tensor, flow: Tensor, covered: Tensor) -> None:
        """Add a frame of a fixed camera.

        Args:
            image: [H, W, 3] in 0..1.
            flow: [H, W, 2] in pixels.
            covered: Pixels that the scene covers [H, W], bool.
        """
        still = covered & (flow.norm(dim=-1) < self.still_below)
        x = image.double()
        if self.sum is None or self.squares is None or self.still is None:
            self.sum, self.squares, self.still = torch.zeros_like(x), torch.zeros_like(x), still
        self.sum, self.squares, self.still = self.sum + x, self.squares + x.square(), self.still & still
        self.count += 1

    def variance(self) -> float:
        """Mean variance over static pixels and channels; NaN with fewer than two frames or without static pixels."""
        if self.count < 2 or self.sum is None or self.squares is None or self.still is None:
            return float("nan")
        if not bool(self.still.any()):
            return float("nan")
        variance = self.squares / self.count - (self.sum / self.count).square()
        return float(variance.clamp(min=0)[self.still].mean())
