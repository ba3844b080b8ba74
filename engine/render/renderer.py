"""Render stored Gaussians: activation, spherical harmonics, depth and flow as extra channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import Cameras, Gaussians
from .rasterizer import DividedRasterizer, RasterInfo, Rasterizer, RasterSettings
from .shading import shade

DEFAULTS = RasterSettings()
# coverage below which there is neither depth nor flow
LEAST_ALPHA = 1e-3


@dataclass(frozen=True, eq=False)
class Picture:
    """B rendered views of one frame.

    Args:
        rgb: Colors over the background [B, H, W, 3], not clamped.
        alpha: Coverage [B, H, W] in 0..1.
        depth: [B, H, W] in world units along the viewing axis, alpha-weighted mean; 0 where the scene is empty.
        flow: [B, H, W, 2] in pixels, alpha-weighted mean motion of the Gaussians' centers.
        info: Info for densification.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None
    flow: Tensor | None
    info: RasterInfo


def render_gaussians(
    gaussians: Gaussians,
    cameras: Cameras,
    rasterizer: Rasterizer,
    background: Tensor | None = None,
    *,
    want_depth: bool = False,
    next_means: Tensor | None = None,
    next_cameras: Cameras | None = None,
    sh_degree: int | None = None,
    settings: RasterSettings = DEFAULTS,
) -> Picture:
    """Render Gaussians of one frame from B cameras. Differentiable.

    Args:
        gaussians: N Gaussians as stored (log scales, opacity logits).
        cameras: B cameras of one size.
        rasterizer: From `choose`.
        background: Color [3] in 0..1; None: black.
        want_depth: Render depth too.
        next_means: Means [N, 3] at the end of the flow, in world units; None: no flow.
        next_cameras: B cameras at the end of the flow; None: `cameras`.
        sh_degree: Maximum SH degree; None: that of the Gaussians.
        settings: Settings of the splatting model.

    Returns:
        Colors, alpha, depth and flow.

    Raises:
        ValueError: The cameras differ in size.

    Source:
        3DGS (Kerbl et al. 2023).

    Example:
        rendered = render_gaussians(scene.at(0.5), scene.rig, choose("auto"), scene.background, want_depth=True)
        image, depth = rendered.rgb.clamp(0, 1), rendered.depth
    """
    if len(set(cameras.sizes)) != 1:
        raise ValueError(f"cameras of one call must have one size, got {sorted(set(cameras.sizes))}")
    width, height = cameras.sizes[0]
    means = gaussians.means
    w2c, K, _ = cameras.on(means)
    quats, scales, opacities, colors = shade(gaussians, cameras, sh_degree)
    channels = [colors]
    if want_depth:
        channels.append(means @ w2c[:, 2, :3, None] + w2c[:, 2, 3, None, None])
    if next_means is not None:
        later = cameras if next_cameras is None else next_cameras
        shift = [later.project(next_means, b)[0] - cameras.project(means, b)[0] for b in range(len(cameras))]
        channels.append(torch.stack(shift))
    features = torch.cat(channels, dim=-1) if len(channels) > 1 else channels[0]
    extra = features.shape[-1] - 3
    backdrop = None
    if background is not None:
        backdrop = torch.nn.functional.pad(background.to(means), (0, extra))
    drawn, alpha, info = rasterizer.render(
        means, quats, scales, opacities, features, w2c, K, width, height, backdrop, settings
    )
    if not extra:
        return Picture(drawn, alpha, None, None, info)
    safe = torch.where(alpha > LEAST_ALPHA, alpha, torch.inf)[..., None]
    position = 3
    depth = flow = None
    if want_depth:
        depth, position = (drawn[..., 3:4] / safe)[..., 0], 4
    if next_means is not None:
        flow = drawn[..., position : position + 2] / safe
    return Picture(drawn[..., :3], alpha, depth, flow, info)


def render_divided(
    gaussians: Gaussians,
    cameras: Cameras,
    rasterizer: DividedRasterizer,
    background: Tensor,
    *,
    want_depth: bool = False,
    sh_degree: int | None = None,
    settings: RasterSettings = DEFAULTS,
) -> Picture:
    """Render the Gaussians of all processes of a training from B cameras of this one. Differentiable.

    Args:
        gaussians: This process's N Gaussians as stored.
        cameras: B cameras of one size; B and the size are the same on all processes.
        rasterizer: From `choose`.
        background: Color [3] in 0..1.
        want_depth: Return depth too.
        sh_degree: Maximum SH degree; None: that of the Gaussians.
        settings: Settings of the splatting model.

    Returns:
        As `render_gaussians`, with the info of `DividedRasterizer.render_divided`.
    """
    width, height = cameras.sizes[0]
    a = gaussians.activated()
    w2c, K, _ = cameras.on(a.means)
    highest = gaussians.sh_degree
    degree = highest if sh_degree is None else min(sh_degree, highest)
    colors, alpha, distance, info = rasterizer.render_divided(
        a.means, a.quats, a.scales, a.opacities, a.sh, w2c, K, width, height, degree, settings
    )
    rgb = colors + (1 - alpha)[..., None] * background.to(colors)
    depth = distance / torch.where(alpha > LEAST_ALPHA, alpha, torch.inf) if want_depth else None
    return Picture(rgb, alpha, depth, None, info)
