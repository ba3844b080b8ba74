"""An image moved along a camera path by its distances: inverse warping, with visibility, and holes filled from around them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..reconstruction.tokens import ray_origins

# how strongly nearer surfaces win where several fall on one pixel
NEARNESS = 30.0
# part of its distance by which a point may lie behind the first frame's surface and still count as seen there
SEEN = 0.04
# rays along each side that a projection is solved from
SIDE = 4


def projections(rays: Tensor) -> tuple[Tensor, Tensor]:
    """The pinhole cameras of Plücker rays.

    Args:
        rays: [..., H, W, 6], moment and direction.

    Returns:
        Camera centers [..., 3] and matrices M [..., 3, 3]: M (X − center) = (x z, y z, z) with (x, y) in 0..1 of the image
        and z positive in front of the camera, in units of its own. Computed in float64.
    """
    height, width = rays.shape[-3:-1]
    rows = torch.linspace(0, height - 1, min(SIDE, height)).round().long()
    columns = torch.linspace(0, width - 1, min(SIDE, width)).round().long()
    some = rays[..., rows[:, None], columns, :].double()
    y, x = torch.meshgrid((rows + 0.5) / height, (columns + 0.5) / width, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).double().to(rays.device).flatten(0, 1)
    direction = some[..., 3:].flatten(-3, -2)
    # direction × (A pixel) = 0 is linear in the nine numbers of A
    zero = torch.zeros_like(direction[..., 0])
    dx, dy, dz = direction.unbind(-1)
    cross = torch.stack(
        [
            torch.stack([zero, -dz, dy], -1),
            torch.stack([dz, zero, -dx], -1),
            torch.stack([-dy, dx, zero], -1),
        ],
        -2,
    )
    rows_of = (cross[..., None] * pixels[:, None, None, :]).flatten(-2).flatten(-3, -2)
    matrix = torch.linalg.svd(rows_of)[2][..., -1, :].unflatten(-1, (3, 3))
    facing = ((pixels @ matrix.mT) * direction).sum((-2, -1))
    matrix = matrix * torch.where(facing < 0, -1.0, 1.0)[..., None, None]
    return ray_origins(rays.double()).to(rays.dtype), torch.linalg.inv(matrix).to(rays.dtype)


def warped(image: Tensor, distances: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """What the frames of a path see of the first one, if nothing moves.

    Args:
        image: The first frame [B, H, W, 3].
        distances: From its camera [B, H, W].
        rays: Plücker rays of all frames [B, T, H, W, 6].

    Returns:
        Frames [B, T, H, W, 3], and whether the first frame saw their pixels [B, T, H, W]; the first frame is the image.
    """
    centers, matrices = projections(rays)
    points = centers[:, :1, None] + (rays[:, 0, ..., 3:] * distances[..., None]).flatten(1, 2)[:, None]
    there, _ = _splatted_distances(points - centers[:, :, None], matrices, image.shape[1:3])
    surface = centers[:, :, None, None] + rays[..., 3:] * there[..., None]
    offset = surface - centers[:, :1, None, None]
    seen = (offset.flatten(2, 3) @ matrices[:, :1].mT).unflatten(2, image.shape[1:3])
    where = 2 * seen[..., :2] / seen[..., 2:].clamp(min=1e-6) - 1
    planes = torch.cat([image, distances[..., None]], dim=-1).permute(0, 3, 1, 2)
    found = F.grid_sample(planes, where.flatten(1, 2), padding_mode="border", align_corners=False)
    found = found.permute(0, 2, 3, 1).unflatten(1, where.shape[1:3])
    inside = (where.abs() <= 1).all(-1) & (seen[..., 2] > 0)
    visible = inside & (offset.norm(dim=-1) < (1 + SEEN) * found[..., 3])
    visible[:, 0] = True
    return torch.cat([image[:, None], found[:, 1:, ..., :3]], dim=1), visible.to(image)


def _splatted_distances(offsets: Tensor, matrices: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Distances [B, T, H, W] of points given relative to each camera [B, T, P, 3], gaps filled; and what covered them."""
    height, width = size
    batch, frames = offsets.shape[:2]
    projected = offsets @ matrices.mT
    z = projected[..., 2]
    sides = projected.new_tensor([width, height])
    pixels = projected[..., :2] / z[..., None].clamp(min=1e-6) * sides - 0.5
    far = offsets.norm(dim=-1)
    # relative to the frame's mean, so that the exponential stays within range
    near = (-NEARNESS * (far / far.mean(-1, keepdim=True)).clamp(0.2, 5).log()).exp()
    low = pixels.floor()
    part = pixels - low
    sums = offsets.new_zeros(batch * frames * height * width, 2)
    first = torch.arange(batch * frames, device=offsets.device).view(batch, frames, 1) * (height * width)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = low[..., 0] + dx, low[..., 1] + dy
            weight = (part[..., 0] - (1 - dx)).abs() * (part[..., 1] - (1 - dy)).abs() * near
            usable = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > 0)
            weight = torch.where(usable, weight, 0.0)
            index = first + y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
            sums.index_add_(0, index.flatten(), torch.stack([weight * far, weight], dim=-1).flatten(0, 2))
    sums = sums.view(batch * frames, height, width, 2)
    covered = sums[..., 1] > 0
    distances = sums[..., :1] / sums[..., 1:].clamp(min=1e-20)
    filled = filled_holes(torch.where(covered[..., None], distances, 0.0), covered.to(sums))
    return filled[..., 0].view(batch, frames, height, width), covered.view(batch, frames, height, width)


def filled_holes(images: Tensor, weights: Tensor) -> Tensor:
    """Fill what has no weight with a blurred version of what surrounds it.

    Args:
        images: [N, H, W, C].
        weights: In 0..1 [N, H, W].

    Returns:
        [N, H, W, C]: the images where the weight is 1.
    """
    planes, weight = (images * weights[..., None]).permute(0, 3, 1, 2), weights[:, None]
    return _filled(planes, weight).permute(0, 2, 3, 1)


def _filled(planes: Tensor, weight: Tensor) -> Tensor:
    """Premultiplied planes, and behind them what coarser levels have."""
    if min(planes.shape[-2:]) <= 1 or planes.shape[-1] % 2 or planes.shape[-2] % 2:
        total = weight.sum((-2, -1), keepdim=True).clamp(min=1e-6)
        behind = planes.sum((-2, -1), keepdim=True) / total
    else:
        small = _filled(F.avg_pool2d(planes, 2), F.avg_pool2d(weight, 2))
        behind = F.interpolate(small, planes.shape[-2:], mode="bilinear", align_corners=False)
    # a coarse cell counts as known as soon as a quarter of it is
    known = weight.clamp(min=1e-6)
    certain = (4 * weight).clamp(max=1)
    return planes / known * certain + (1 - certain) * behind
