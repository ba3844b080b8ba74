"""How steady a rendered video is, measured without any network: the scene's own motion says where each point went."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

AGREEMENT = 1.0  # pixels by which forward and backward motion may disagree before a pixel counts as hidden


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Picture [H, W, C] looked up at x + flow [H, W, 2] (pixels): bilinear, the border repeated."""
    h, w = flow.shape[:2]
    y, x = torch.meshgrid(
        torch.arange(h, device=flow.device, dtype=flow.dtype) + 0.5,
        torch.arange(w, device=flow.device, dtype=flow.dtype) + 0.5,
        indexing="ij",
    )
    grid = torch.stack([(x + flow[..., 0]) * 2 / w - 1, (y + flow[..., 1]) * 2 / h - 1], dim=-1)
    found = F.grid_sample(
        picture.permute(2, 0, 1)[None],
        grid[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return found[0].permute(1, 2, 0)


def visible_in_both(forward: Tensor, backward: Tensor, covered: Tensor) -> Tensor:
    """[H, W] bool: pixels of the later picture that the earlier one shows too.

    `forward` [H, W, 2] from the earlier picture, `backward` [H, W, 2] from the later one; there and back again must
    end within a pixel (Sundaram et al. 2010, in its simplest form). `covered` [H, W] bool, of the later picture.
    """
    return covered & ((warp(forward, backward) + backward).norm(dim=-1) < AGREEMENT)


def flow_warp_error(
    earlier: Tensor, later: Tensor, forward: Tensor, backward: Tensor, covered: Tensor
) -> float:
    """Mean |later − warped earlier| over what both show; NaN where that is nothing. Pictures [H, W, 3] in 0..1."""
    seen = visible_in_both(forward, backward, covered)
    if not bool(seen.any()):
        return float("nan")
    return float((later - warp(earlier, backward)).abs().mean(dim=-1)[seen].mean())


class StaticRegion:
    """Variance over time of the pixels that nothing moves through, gathered picture by picture."""

    def __init__(self, still_below: float = 0.1) -> None:
        self.still_below = still_below  # pixels between two pictures
        self.count = 0
        self.sum: Tensor | None = None
        self.squares: Tensor | None = None
        self.still: Tensor | None = None

    def add(self, picture: Tensor, flow: Tensor, covered: Tensor) -> None:
        """A picture [H, W, 3] of a fixed camera, its flow [H, W, 2] and what the scene covers [H, W] bool."""
        still = covered & (flow.norm(dim=-1) < self.still_below)
        x = picture.double()
        if self.sum is None or self.squares is None or self.still is None:
            self.sum, self.squares, self.still = torch.zeros_like(x), torch.zeros_like(x), still
        self.sum, self.squares, self.still = self.sum + x, self.squares + x.square(), self.still & still
        self.count += 1

    def variance(self) -> float:
        """Mean over still pixels and channels; NaN with fewer than two pictures or no still pixel."""
        if self.count < 2 or self.sum is None or self.squares is None or self.still is None:
            return float("nan")
        if not bool(self.still.any()):
            return float("nan")
        variance = self.squares / self.count - (self.sum / self.count).square()
        return float(variance.clamp(min=0)[self.still].mean())
