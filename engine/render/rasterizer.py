"""The rasterizer protocol, its settings, and its info for densification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class RasterSettings:
    """Settings of the splatting model; the defaults are gsplat 1.5's.

    Args:
        near: Near plane in world units; nearer Gaussians are dropped.
        far: Far plane in world units.
        eps2d: Added to the diagonal of the projected covariance, in pixels².
        max_alpha: Upper limit of a Gaussian's alpha: 0.999 as in gsplat 1.5, 0.99 as in gsplat 1.6 and INRIA's code.
        antialiased: Compensate the opacity for eps2d (Mip-Splatting).
    """

    near: float = 0.01
    far: float = 1e10
    eps2d: float = 0.3
    max_alpha: float = 0.999
    antialiased: bool = False


@dataclass(eq=False)
class RasterInfo:
    """What densification needs from a rendering.

    Args:
        means2d: Projected means [B, N, 2] in pixels, detached; meaningless for invisible Gaussians.
        radii: [B, N] int32 in pixels; 0: not visible.
        gradient: Filled by backward, [B, N, 2] per call.
    """

    means2d: Tensor
    radii: Tensor
    gradient: list[Tensor] = field(default_factory=list)

    @property
    def visible(self) -> Tensor:
        """Whether a camera shows a Gaussian, [B, N] bool."""
        return self.radii > 0

    @property
    def means2d_gradient(self) -> Tensor:
        """dLoss/d means2d [B, N, 2] in loss per pixel, summed over backward calls; RuntimeError before the first."""
        if not self.gradient:
            raise RuntimeError("means2d_gradient is not available before backward().")
        return sum(self.gradient[1:], start=self.gradient[0])


class Rasterizer(Protocol):
    """Rasterizes Gaussians. To add a rasterizer, see registry.py."""

    # as registered; part of the checkpoint key
    name: str
    # whether it runs on its own threads (`threads.threads_now` of them) instead of torch's
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
        """Composite Gaussians front to back.

        Differentiable in means, quats, scales, opacities, features and background.

        Args:
            means: [N, 3] in world units.
            quats: [N, 4] wxyz, of any length.
            scales: [N, 3], standard deviations in world units.
            opacities: [N] in 0..1.
            features: [N, C] or [B, N, C], colors or any other channels.
            world_to_camera: [B, 4, 4].
            K: [B, 3, 3] in pixels.
            width: Image width in pixels.
            height: Image height in pixels.
            background: [C] or [B, C]; None: zeros.
            settings: Settings of the splatting model.

        Returns:
            Features [B, H, W, C], alpha [B, H, W] in 0..1, and the info for densification.

        Source:
            3DGS (Kerbl et al. 2023), eq. 3.
        """
        ...


@runtime_checkable
class DividedRasterizer(Protocol):
    """A rasterizer whose processes each have some of the Gaussians, and exchange what their views show of them."""

    def render_divided(
        self,
        means: Tensor,  # [N, 3]
        quats: Tensor,  # [N, 4] wxyz, any length
        scales: Tensor,  # [N, 3] linear
        opacities: Tensor,  # [N] in 0..1
        sh: Tensor,  # [N, K, 3]
        world_to_camera: Tensor,  # [B, 4, 4]
        K: Tensor,  # [B, 3, 3]
        width: int,
        height: int,
        sh_degree: int,
        settings: RasterSettings = RasterSettings(),
    ) -> tuple[Tensor, Tensor, Tensor, RasterInfo]:
        """Composite the Gaussians of all processes for the views of this one. Differentiable; all processes must call it, and
        `backward`, the same number of times, with the same number of views, all of one size.

        Args:
            means: [N, 3] in world units; N may differ among processes.
            quats: [N, 4] wxyz, of any length.
            scales: [N, 3], standard deviations in world units.
            opacities: [N] in 0..1.
            sh: [N, K, 3], index 0 = DC.
            world_to_camera: [B, 4, 4], of this process's views.
            K: [B, 3, 3] in pixels.
            width: Image width in pixels.
            height: Image height in pixels.
            sh_degree: Maximum SH degree.
            settings: Settings of the splatting model.

        Returns:
            Colors [B, H, W, 3] over black, alpha [B, H, W] in 0..1, depth times alpha [B, H, W] in world units, and the info of
            this process's N Gaussians in the views of all processes, in their order.
        """
        ...
