"""The one door to rasterization: a protocol, its settings, and the choice between implementations."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .. import backends
from ..errors import InputError

log = logging.getLogger("gs4d")


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
    name: str  # "gsplat" | "numba" | "torch"

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


def choose(name: str = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """The rasterizer called `name`, or for "auto" the fastest that works on `device`; one log line says which and why.

    Raises InputError where a named one cannot run, with what is missing.
    """
    on_cuda = torch.device(device).type == "cuda"
    if name == "auto":
        if on_cuda and backends.gsplat_works():
            name, why = "gsplat", "CUDA tensors and gsplat's kernels are there"
        elif on_cuda:
            name, why = (
                "torch",
                "CUDA tensors but no working gsplat (pip install gsplat makes this much faster)",
            )
        elif backends.installed("numba"):
            name, why = "numba", "CPU tensors"
        else:
            name, why = "torch", f"CPU tensors and no numba ({backends.HINTS['numba']})"
        log.info("rasterizer: %s (%s)", name, why)
    if name == "gsplat":
        if not backends.gsplat_works():
            raise InputError(
                f"The gsplat rasterizer cannot run here: {backends.HINTS['gsplat']}; or choose rasterizer 'auto'."
            )
        from .gsplat_cuda import GsplatRasterizer

        return GsplatRasterizer()
    if name == "numba":
        backends.require("numba")
        from .numba_cpu import NumbaRasterizer

        return NumbaRasterizer()
    if name == "torch":
        from .torch_reference import TorchRasterizer

        return TorchRasterizer()
    raise InputError(f"No rasterizer is called '{name}'; choose auto, gsplat, numba or torch.")
