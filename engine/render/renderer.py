"""From stored Gaussians to pictures: activation, spherical harmonics, depth and flow as extra channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import Cameras, Gaussians, harmonics
from .rasterizer import RasterInfo, Rasterizer, RasterSettings

DEFAULTS = RasterSettings()


@dataclass(frozen=True, eq=False)
class Picture:
    """B views of one moment."""

    rgb: Tensor  # [B, H, W, 3] over the background, not clamped
    alpha: Tensor  # [B, H, W] in 0..1
    depth: (
        Tensor | None
    )  # [B, H, W] world units along the viewing axis, alpha-weighted mean; 0 where nothing is
    flow: Tensor | None  # [B, H, W, 2] pixels, alpha-weighted mean motion of Gaussian centres
    info: RasterInfo


def view_dependent_colors(means: Tensor, sh: Tensor, cameras: Cameras, degree: int | None = None) -> Tensor:
    """RGB [B, N, 3] of each Gaussian towards each of B cameras (3DGS: direction from camera centre to mean)."""
    degree = (
        harmonics.degree_of(sh.shape[1]) if degree is None else min(degree, harmonics.degree_of(sh.shape[1]))
    )
    if degree == 0:
        return (sh[:, 0] * harmonics.C0 + 0.5).clamp(min=0).expand(len(cameras), -1, -1)
    centers = cameras.centers.to(means)
    # direction gradients into the means are tiny and noisy; gsplat and 3DGS keep them, so do we
    directions = torch.nn.functional.normalize(means[None] - centers[:, None], dim=-1)
    return harmonics.colors(sh, directions, degree)


def render_gaussians(
    gaussians: Gaussians,
    cameras: Cameras,
    rasterizer: Rasterizer,
    background: Tensor | None = None,  # [3]
    *,
    want_depth: bool = False,
    next_means: Tensor | None = None,  # [N, 3] where the means will be at the other end of the flow
    next_cameras: Cameras | None = None,  # cameras of that later picture; None = these
    sh_degree: int | None = None,
    settings: RasterSettings = DEFAULTS,
) -> Picture:
    """B views of Gaussians at one moment; all cameras of one call share one size. Differentiable.

    Flow is rendered where `next_means` is given. Raises ValueError where sizes differ.
    """
    if len(set(cameras.sizes)) != 1:
        raise ValueError(f"one call renders one size, got {sorted(set(cameras.sizes))}")
    width, height = cameras.sizes[0]
    a = gaussians.activated()
    w2c, K = cameras.world_to_camera.to(a.means), cameras.K.to(a.means)
    channels = [view_dependent_colors(a.means, a.sh, cameras, sh_degree)]
    if want_depth:
        channels.append(a.means @ w2c[:, 2, :3, None] + w2c[:, 2, 3, None, None])
    if next_means is not None:
        later = cameras if next_cameras is None else next_cameras
        shift = [
            later.project(next_means, b)[0] - cameras.project(a.means, b)[0] for b in range(len(cameras))
        ]
        channels.append(torch.stack(shift))
    features = torch.cat(channels, dim=-1) if len(channels) > 1 else channels[0]
    extra = features.shape[-1] - 3
    backdrop = None
    if background is not None:
        backdrop = torch.nn.functional.pad(background.to(a.means), (0, extra))
    drawn, alpha, info = rasterizer.render(
        a.means, a.quats, a.scales, a.opacities, features, w2c, K, width, height, backdrop, settings
    )
    safe = torch.where(alpha > 1e-3, alpha, torch.inf)[..., None]
    position = 3
    depth = flow = None
    if want_depth:
        depth, position = (drawn[..., 3:4] / safe)[..., 0], 4
    if next_means is not None:
        flow = drawn[..., position : position + 2] / safe
    return Picture(drawn[..., :3], alpha, depth, flow, info)
