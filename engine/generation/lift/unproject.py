"""Pixels of depth maps as surface patches in the world: places, tangents and sizes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...scene import Gaussians, harmonics, rotations
from ...scene.cameras import Cameras
from ...tracking.tracks import pixel_centers

# standard deviation of a Gaussian in pixels, its thickness and largest stretch relative to a pixel, and its opacity
SIGMA, THICKNESS, MOST_STRETCH, OPACITY = 0.5, 0.15, 4.0, 0.97
# relative step of depth between neighboring pixels that is an edge
EDGE = 0.06


class Patches(NamedTuple):
    """P surface patches, one per pixel."""

    places: Tensor  # [P, 3] world
    along: Tensor  # [P, 2, 3] world: from the pixel to its right and lower neighbor
    footprint: Tensor  # [P] width of a pixel at this depth
    colors: Tensor  # [P, 3]

    def take(self, index: Tensor) -> Patches:
        """Selected patches: bool [P] or long [M]."""
        return Patches(*(each[index] for each in self))

    @staticmethod
    def joined(parts: list[Patches]) -> Patches:
        return Patches(*(torch.cat(each) for each in zip(*parts, strict=True)))


def world_points(depth: Tensor, camera: Cameras, pixels: Tensor) -> Tensor:
    """World points [P, 3] of pixels [P, 2] at depths [P] of one camera."""
    K, pose = camera.K[0].to(depth), camera.world_to_camera[0].to(depth)
    flat = (pixels - K[:2, 2]) / K.diagonal()[:2]
    local = torch.cat([flat, torch.ones_like(flat[:, :1])], 1) * depth[:, None]
    return (local - pose[:3, 3]) @ pose[:3, :3]


def depth_edges(depth: Tensor) -> Tensor:
    """Whether depth [..., H, W] is smeared between two surfaces (jumps on both sides of a pixel), or has no value there."""
    filled = torch.nan_to_num(depth, nan=0.0)
    edge = depth.isnan()
    for axis in (-1, -2):
        count = filled.shape[axis] - 1
        a, b = filled.narrow(axis, 0, count), filled.narrow(axis, 1, count)
        jump = (a - b).abs() > EDGE * torch.minimum(a, b).clamp(min=1e-6)
        # the inner pixels have a neighbor on both sides
        both = jump.narrow(axis, 0, count - 1) & jump.narrow(axis, 1, count - 1)
        edge.narrow(axis, 1, count - 1).logical_or_(both)
    return edge


def patches_of(image: Tensor, depth: Tensor, camera: Cameras, chosen: Tensor) -> Patches:
    """Patches of the chosen pixels [H, W] bool of one frame.

    Args:
        image: [H, W, 3] in 0..1.
        depth: [H, W] in world units.
        camera: The frame's camera.
        chosen: Pixels with a depth.
    """
    height, width = depth.shape
    pixels = pixel_centers(width, height, depth)
    places = world_points(depth.flatten(), camera, pixels.reshape(-1, 2)).reshape(height, width, 3)
    along = torch.stack([_slope(places, depth, 1), _slope(places, depth, 0)], 2)
    footprint = depth / float(camera.K[0, 0, 0])
    lengths = along.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    # a surface seen at a grazing angle is not stretched without end
    along = along * (MOST_STRETCH * footprint[..., None, None] / lengths).clamp(max=1)
    return Patches(places[chosen], along[chosen], footprint[chosen], image[chosen])


def _slope(places: Tensor, depth: Tensor, axis: int) -> Tensor:
    """World step to the next pixel along an axis: the one-sided difference on the side where depth changes less."""
    ahead = places.roll(-1, axis) - places
    behind = places - places.roll(1, axis)
    a, b = (depth.roll(-1, axis) - depth).abs(), (depth - depth.roll(1, axis)).abs()
    a, b = torch.nan_to_num(a, nan=torch.inf), torch.nan_to_num(b, nan=torch.inf)
    last = depth.shape[axis] - 1
    a.select(axis, last).fill_(torch.inf)
    b.select(axis, 0).fill_(torch.inf)
    return torch.where((a <= b)[..., None], ahead, behind)


def as_gaussians(patches: Patches) -> Gaussians:
    """Flat Gaussians over the patches."""
    u, v = (SIGMA * patches.along).float().unbind(1)
    thin = THICKNESS * patches.footprint.float()
    normal = torch.nn.functional.normalize(torch.linalg.cross(u, v), dim=1)
    covariance = u[:, :, None] * u[:, None] + v[:, :, None] * v[:, None]
    covariance = covariance + (thin**2)[:, None, None] * normal[:, :, None] * normal[:, None]
    values, axes = torch.linalg.eigh(covariance)
    # a reflection is not a rotation
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    scales = values.clamp(min=0).sqrt().maximum(0.5 * thin[:, None])
    count = len(patches.places)
    return Gaussians(
        means=patches.places.float(),
        log_scales=scales.clamp(min=1e-9).log(),
        quats=rotations.matrices_to_quats(axes),
        logit_opacities=torch.full((count,), OPACITY).logit(),
        sh=harmonics.rgb_to_dc(patches.colors.float())[:, None],
    )
