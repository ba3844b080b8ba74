"""Rasterize Gaussians as latents: few, large pixels with any number of channels.

Source: ED-NeRF (Park et al., ICLR 2024, eq. 5), which composites four channels along rays at an eighth of the image size;
here Gaussians are splatted. Three measures keep an image of, say, 24×32 latents accurate: cameras are scaled with
corner-origin pixels, so that latent (0, 0) covers the same corner as its pixels; several samples per latent are
rasterized and averaged; and Gaussians have a minimum size, a fraction of a sample seen from the nearest camera. Pixels
that the scene does not cover get a background latent, because zero is not black for an autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..render import RasterInfo, Rasterizer, RasterSettings
from ..scene import Cameras, Gaussians, Scene4D, harmonics


@dataclass(frozen=True)
class Drawing:
    """Settings of the rasterization; part of a field, because its features were fitted with them.

    Args:
        samples: Samples along each side of a latent, averaged.
        scale_floor: Minimum standard deviation of a Gaussian, in samples seen from the nearest camera.
        antialiased: Opacities compensate for the minimum size in splatting (Mip-Splatting).
    """

    samples: int = 4
    scale_floor: float = 0.25
    antialiased: bool = True


def latent_cameras(rig: Cameras, size: tuple[int, int], factor: int) -> Cameras:
    """Scale the cameras of a rig to latents.

    Args:
        rig: B cameras.
        size: (width, height) in pixels of the decoded images.
        factor: Pixels per latent, along each side.

    Returns:
        B cameras of size / factor.

    Raises:
        InputError: A side is not a multiple of the factor.
    """
    width, height = size
    if width % factor or height % factor or min(size) < factor:
        raise InputError(
            "LAT-004",
            f"Images of {width}×{height} cannot be divided into latents of {factor}×{factor} pixels; choose a size whose "
            f"sides are multiples of {factor}, such as {_near(width, factor)}×{_near(height, factor)}.",
        )
    return rig.resized(((width // factor, height // factor),) * len(rig))


@torch.no_grad()
def min_scales(scene: Scene4D, cameras: Cameras, how: Drawing) -> Tensor:
    """Minimum scales [N] in world units: `scale_floor` samples at each canonical Gaussian, for the nearest camera."""
    means = scene.canonical.means.detach()
    sample = torch.full((len(means),), torch.inf, device=means.device)
    for view in range(len(cameras)):
        pixels, depth = cameras.project(means, view)
        width, height = cameras.sizes[view]
        size = torch.tensor([width, height]).to(pixels)
        seen = (depth > 0.01) & ((pixels > -0.5 * size) & (pixels < 1.5 * size)).all(dim=1)
        focal = float(cameras.K[view, 0, 0] + cameras.K[view, 1, 1]) / 2
        sample = torch.where(seen, torch.minimum(sample, depth / focal / how.samples), sample)
    return torch.where(torch.isfinite(sample), sample, 0) * how.scale_floor


def draw(
    gaussians: Gaussians,
    features: Tensor,
    background: Tensor,
    cameras: Cameras,
    rasterizer: Rasterizer,
    how: Drawing,
    least: Tensor | None = None,
) -> tuple[Tensor, Tensor, RasterInfo]:
    """Rasterize latents. Differentiable in all tensors.

    Args:
        gaussians: N Gaussians of one frame.
        features: Latents [N, K, C]; K > 1: spherical harmonics of the viewing direction.
        background: Latent [C] of uncovered pixels.
        cameras: B cameras of latent size, from `latent_cameras`.
        rasterizer: Any rasterizer.
        how: Settings.
        least: Minimum scales [N] in world units, from `min_scales`; None: scales as they are.

    Returns:
        Latents [B, C, h, w], coverage [B, h, w] in 0..1, and the rasterizer's info for densification.
    """
    a = gaussians.activated()
    scales = a.scales if least is None else torch.maximum(a.scales, least[:, None])
    width, height = cameras.sizes[0]
    fine = cameras.resized(((width * how.samples, height * how.samples),) * len(cameras))
    drawn, alpha, info = rasterizer.render(
        a.means,
        a.quats,
        scales,
        a.opacities,
        towards(a.means, features, cameras),
        cameras.on(a.means).world_to_camera,
        fine.K.to(a.means, non_blocking=True),
        width * how.samples,
        height * how.samples,
        background,
        RasterSettings(antialiased=how.antialiased),
    )
    planes = drawn.permute(0, 3, 1, 2)
    if how.samples > 1:
        planes = F.avg_pool2d(planes, how.samples)
        alpha = F.avg_pool2d(alpha[:, None], how.samples)[:, 0]
    return planes.contiguous(), alpha, info


def towards(means: Tensor, features: Tensor, cameras: Cameras) -> Tensor:
    """Features towards each camera: [N, C], or [B, N, C] if they depend on the direction."""
    if features.shape[1] == 1:
        return features[:, 0]
    directions = F.normalize(means[None] - cameras.on(means).centers[:, None], dim=-1)
    # dividing by the first basis, a constant, makes features[:, 0] the latent itself
    return harmonics.evaluate(features, directions) / harmonics.C0


def _near(side: int, factor: int) -> int:
    return max(1, round(side / factor)) * factor
