"""Numbers that change while training: learning rates, SH degree, image size. Pure functions of progress."""

from __future__ import annotations

import math
from typing import Protocol


def log_linear(start: float, end: float, progress: float) -> float:
    """From `start` at 0 to `end` at 1, straight on a logarithmic scale (3DGS's position rate)."""
    progress = min(max(progress, 0.0), 1.0)
    return math.exp(math.log(start) * (1 - progress) + math.log(end) * progress)


class RatesConfig(Protocol):
    """Learning rates of the Gaussians; that of positions is in the normalized world's unit."""

    @property
    def position_lr(self) -> float: ...
    @property
    def scale_lr(self) -> float: ...
    @property
    def rotation_lr(self) -> float: ...
    @property
    def opacity_lr(self) -> float: ...
    @property
    def color_lr(self) -> float: ...


def learning_rates(c: RatesConfig, unit: float, progress: float) -> dict[str, float]:
    """The rate of each tensor of the Gaussians; `unit` is the size of one unit of their positions in the normalized world."""
    position = c.position_lr / unit
    return {
        "means": log_linear(position, position * 0.01, progress) if position else 0.0,
        "log_scales": c.scale_lr,
        "quats": c.rotation_lr,
        "logit_opacities": c.opacity_lr,
        "sh_dc": c.color_lr,
        "sh_rest": c.color_lr / 20,
    }


def sh_degree_at(progress: float, highest: int) -> int:
    """SH degrees open one after the other over the first half of the stage (3DGS opens one every 1000 iterations)."""
    return min(highest, int(progress * 2 * (highest + 1)))


def picture_scale_at(progress: float, start_scale: float, full_at: float) -> float:
    """Fraction of the full image size: grows in two equal steps and is full from `full_at` on (after DashGaussian).

    Few distinct sizes, so that resized targets can be cached.
    """
    if start_scale >= 1 or progress >= full_at:
        return 1.0
    return start_scale if progress < full_at / 2 else (start_scale + 1) / 2
