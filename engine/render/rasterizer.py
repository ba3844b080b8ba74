"""What every rasterizer offers: a protocol, its settings, and what densification is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class RasterSettings:
    """Numbers of the splatting model itself; the defaults are gsplat 1.5's."""

    near: float = 0.01  # world units; nearer Gaussians are dropped
    far: float = 1e10
    eps2d: float = 0.3  # pixels² added to the projected covariance's diagonal
    max_alpha: float = 0.999  # 0.999 as gsplat 1.5; 0.99 as gsplat 1.6 and INRIA's
    antialiased: bool = False  # compensate opacity for eps2d (Mip-Splatting)


@dataclass(eq=False)
class RasterInfo:
    """What densification needs to know about one call."""

    means2d: Tensor  # [B, N, 2] pixels (detached), meaningless where not visible
    radii: Tensor  # [B, N] int32 pixels, 0 = not visible
    gradient: list[Tensor] = field(default_factory=list)  # filled by backward: [B, N, 2]

    @property
    def visible(self) -> Tensor:
        """[B, N] bool."""
        return self.radii > 0

    @property
    def means2d_gradient(self) -> Tensor:
        """dLoss/d means2d [B, N, 2] in loss per pixel, summed over backward calls; RuntimeError before the first."""
        if not self.gradient:
            raise RuntimeError("means2d_gradient was asked for before backward().")
        return sum(self.gradient[1:], start=self.gradient[0])


class Rasterizer(Protocol):
    """Draws Gaussians. To make one available, see registry.py."""

    name: str  # as registered; part of the checkpoints' identity
    # whether it draws on threads of its own (`threads.threads_now` of them) and leaves torch's thread count alone
    uses_own_threads: bool

    def render(
        self,
        means: Tensor,  # [N, 3]
        quats: Tensor,  # [N, 4] wxyz, any length
        scales: Tensor,  # [N, 3] linear
        opacities: Tensor,  # [N] in 0..1
        features: Tensor,  # [N, C] or [B, N, C]; any C
        world_to_camera: Tensor,  # [B, 4, 4]
        K: Tensor,  # [B, 3, 3]
        width: int,
        height: int,
        background: Tensor | None = None,  # [C] or [B, C]; None = zeros
        settings: RasterSettings = RasterSettings(),
    ) -> tuple[Tensor, Tensor, RasterInfo]:
        """Front-to-back compositing → features [B, H, W, C], alpha [B, H, W], info.

        Differentiable in means, quats, scales, opacities, features and background.
        """
        ...
