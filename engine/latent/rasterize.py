"""Gaussians drawn as latents: few, large pixels, any number of channels, nothing that is black.

ED-NeRF (Park et al., ICLR 2024, eq. 5) composites four channels along rays at an eighth of the picture's size; here
Gaussians are splatted. Three things keep a picture of 24×32 latents right: cameras are scaled with corner-origin pixels,
so that latent (0, 0) covers the same corner as the pixels that it stands for; several samples a latent are drawn and
averaged; and no Gaussian is smaller than a share of a sample seen from the nearest camera. What the scene does not cover
is a latent background, since zero means nothing to an autoencoder.
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
    """How finely latents are drawn; part of a field, since its features were fitted to it."""

    samples: int = 4  # along each side of a latent; averaged
    scale_floor: float = (
        0.25  # least standard deviation of a Gaussian, in samples seen from the nearest camera
    )
    antialiased: bool = (
        True  # opacities make up for the least size that splatting itself gives (Mip-Splatting)
    )


def latent_cameras(rig: Cameras, size: tuple[int, int], factor: int) -> Cameras:
    """The rig with pictures of `size` (width, height) pixels seen as latents.

    Raises InputError where a side is no multiple of the factor.
    """
    width, height = size
    if width % factor or height % factor or min(size) < factor:
        raise InputError(
            "LAT-004",
            f"Latents stand for {factor}×{factor} pixels, and pictures of {width}×{height} cannot be cut into such: choose "
            f"a size whose sides are multiples of {factor}, such as {_near(width, factor)}×{_near(height, factor)}.",
        )
    return rig.resized(((width // factor, height // factor),) * len(rig))


@torch.no_grad()
def min_scales(scene: Scene4D, cameras: Cameras, how: Drawing) -> Tensor:
    """[N] world units: `scale_floor` samples at each canonical Gaussian, seen from the nearest of `cameras`."""
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
    gaussians: Gaussians,  # of one moment
    features: Tensor,  # [N, K, C] latents; K > 1 = spherical harmonics of the viewing direction
    background: Tensor,  # [C]
    cameras: Cameras,  # B cameras of latent size
    rasterizer: Rasterizer,
    how: Drawing,
    least: Tensor | None = None,  # [N] from `min_scales`
) -> tuple[Tensor, Tensor, RasterInfo]:
    """Latents [B, C, h, w], coverage [B, h, w] and what densification is told. Differentiable in all tensors."""
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
        fine.world_to_camera.to(a.means),
        fine.K.to(a.means),
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
    """What each camera sees of the features: [N, C], or [B, N, C] where they depend on the direction."""
    if features.shape[1] == 1:
        return features[:, 0]
    directions = F.normalize(means[None] - cameras.centers.to(means)[:, None], dim=-1)
    # the first basis is a constant: dividing by it makes features[:, 0] the latent itself
    return harmonics.evaluate(features, directions) / harmonics.C0


def _near(side: int, factor: int) -> int:
    return max(1, round(side / factor)) * factor
