"""gsplat's CUDA kernels behind the `Rasterizer` protocol (Ye et al. 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from . import self_check
from .hardware import ROCM, current_gpu
from .rasterizer import RasterInfo, RasterSettings
from .registry import Registration, register

# in messages
NAME = "gsplat"


class GsplatRasterizer:
    """CUDA tensors in float32. The alpha clamp is gsplat's own (0.999 in 1.5, 0.99 in 1.6): `max_alpha` is ignored."""

    name = "gsplat"
    uses_own_threads = False

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
        """See `Rasterizer.render`. Raises InputError if the tensors are not on a CUDA device."""
        colors = features.to(means.dtype).contiguous()
        image, alpha, info = _rasterized(
            settings,
            means=means,
            quats=quats,
            scales=scales,
            opacities=opacities,
            colors=colors,
            viewmats=world_to_camera,
            Ks=K,
            width=width,
            height=height,
            sh_degree=None,
            render_mode="RGB",
        )
        if background is not None:
            # composited here, because gsplat's versions accept different channel counts in `backgrounds`
            background = background.to(means).expand(len(world_to_camera), features.shape[-1])
            image = image + (1 - alpha)[..., None] * background[:, None, None, :]
        return image, alpha, info

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
        """See `DividedRasterizer.render_divided`; processes are those of torch.distributed. Raises InputError as `render`.

        Source:
            gsplat's `distributed` mode, after "On Scaling Up 3D Gaussian Splatting Training" (Zhao et al. 2024).
        """
        image, alpha, info = _rasterized(
            settings,
            means=means,
            quats=quats,
            scales=scales,
            opacities=opacities,
            colors=sh.contiguous(),
            viewmats=world_to_camera,
            Ks=K,
            width=width,
            height=height,
            sh_degree=sh_degree,
            render_mode="RGB+D",
            distributed=True,
        )
        return image[..., :3], alpha, image[..., 3], info


def _check_device(means: Tensor) -> None:
    if means.device.type != "cuda":
        raise InputError(
            "REN-003",
            f"The gsplat rasterizer needs CUDA tensors, but these are on {means.device}; choose rasterizer 'auto'.",
        )


def _rasterized(settings: RasterSettings, **given: Any) -> tuple[Tensor, Tensor, RasterInfo]:
    """Images [B, H, W, C], alpha [B, H, W] and info of gsplat's `rasterization`. Raises InputError."""
    means: Tensor = given["means"]
    _check_device(means)
    # imported here because it is slow and may start a compiler
    from gsplat import rasterization  # pyright: ignore

    call: Any = rasterization
    for name in ("viewmats", "Ks"):
        given[name] = given[name].to(means).contiguous()
    image, alpha, meta = call(
        **given,
        near_plane=settings.near,
        far_plane=settings.far,
        radius_clip=0.0,
        eps2d=settings.eps2d,
        # not packed, so that means2d has one row for every Gaussian and camera
        packed=False,
        tile_size=16,
        backgrounds=None,
        sparse_grad=False,
        absgrad=False,
        rasterize_mode="antialiased" if settings.antialiased else "classic",
        camera_model="pinhole",
    )
    means2d: Tensor = meta["means2d"]  # [B, N, 2] pixels
    # [B, N, 2] from gsplat 1.5 on, [B, N] before
    radii: Tensor = meta["radii"]
    radii = radii.amax(dim=-1) if radii.dim() == 3 else radii
    info = RasterInfo(means2d.detach(), radii.to(torch.int32))
    if means2d.requires_grad:

        def keep(gradient: Tensor) -> None:
            info.gradient.append(gradient.detach())

        means2d.register_hook(keep)
    return image, alpha.squeeze(-1), info


def _wrong_here(index: int) -> str | None:
    # kernels that were built for another kind of GPU fail when they are first used
    return self_check.wrong_here(NAME, index, GsplatRasterizer)


def _obstacle(may_compile: bool = False) -> str | None:
    if torch.version.hip:
        return ROCM
    return backends.gsplat_obstacle(may_compile) or _wrong_here(current_gpu())


register(
    Registration(
        "gsplat",
        {"cuda": 100},
        GsplatRasterizer,
        obstacle=_obstacle,
        prepare=lambda: _obstacle(may_compile=True),
    )
)
