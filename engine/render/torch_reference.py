"""The rasterizer in plain torch, for any dtype and device: the float64 reference of the others, and the fallback.

It is written for readability. Memory stays bounded: tiles are composited one after the other, and recomputed in the
backward pass.

Source: projection: EWA splatting (Zwicker et al. 2001, eq. 31) with gsplat 1.5's conventions; compositing: 3DGS (Kerbl et
al. 2023, eq. 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..scene.rotations import quats_to_matrices
from .rasterizer import RasterInfo, RasterSettings
from .registry import Registration, register

TILE = 16
# smaller alphas are skipped
THRESHOLD = 1 / 255
# a pixel stops before its transmittance would fall to this value
STOP = 1e-4
# (pixel, Gaussian) pairs composited at once
PAIRS = 2**22


@dataclass(frozen=True, eq=False)
class Projection:
    """Projected Gaussians of B images; entries of invisible Gaussians are finite but meaningless.

    Args:
        means2d: [B, N, 2] in pixels.
        depths: [B, N] in world units along the viewing axis.
        conics: Entries xx, xy, yy of the inverse covariance [B, N, 3], in 1/pixels².
        opacities: [B, N], compensated if antialiased.
        reach: [B, N, 2] in pixels, from the center to where alpha falls below 1/255.
        radii: [B, N] int32 in pixels; 0: not visible.
    """

    means2d: Tensor
    depths: Tensor
    conics: Tensor
    opacities: Tensor
    reach: Tensor
    radii: Tensor


def project(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    world_to_camera: Tensor,  # [B, 4, 4]
    K: Tensor,  # [B, 3, 3]
    width: int,
    height: int,
    settings: RasterSettings,
) -> Projection:
    """EWA projection of Gaussians to images, differentiable (Zwicker et al. 2001, eq. 31)."""
    rotation = world_to_camera[:, None, :3, :3]
    points = (rotation @ means[None, :, :, None]).squeeze(-1) + world_to_camera[:, None, :3, 3]
    depths = points[..., 2]
    in_range = (depths >= settings.near) & (depths <= settings.far) & (depths > 0)
    z = torch.where(in_range, depths, torch.ones_like(depths))
    fx, fy, cx, cy = (K[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    u, v = points[..., 0] / z, points[..., 1] / z
    means2d = torch.stack([fx * u + cx, fy * v + cy], dim=-1)
    # the linearization diverges far outside the image, so its point is clamped to 0.15 image sizes beyond the border
    u = torch.minimum(torch.maximum(u, -(cx + 0.15 * width) / fx), (1.15 * width - cx) / fx)
    v = torch.minimum(torch.maximum(v, -(cy + 0.15 * height) / fy), (1.15 * height - cy) / fy)
    nothing = torch.zeros_like(z)
    J = torch.stack([fx / z, nothing, -fx * u / z, nothing, fy / z, -fy * v / z], dim=-1).unflatten(
        -1, (2, 3)
    )
    P = J @ rotation @ (quats_to_matrices(quats) * scales[:, None, :])
    covariance = P @ P.transpose(-1, -2)
    xx, xy, yy = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    sharp = xx * yy - xy * xy
    xx, yy = xx + settings.eps2d, yy + settings.eps2d
    det = xx * yy - xy * xy
    opacities = opacities.expand_as(det)
    is_solid = det > 0
    if settings.antialiased:
        is_solid = is_solid & (sharp > 0)
    det = torch.where(is_solid, det, torch.ones_like(det))
    if settings.antialiased:
        opacities = opacities * (torch.where(is_solid, sharp, torch.ones_like(det)) / det).sqrt()
    drawn = in_range & is_solid & (opacities >= THRESHOLD)
    with torch.no_grad():
        extent = (2 * (opacities.clamp(min=THRESHOLD) / THRESHOLD).log()).sqrt().clamp(max=3.33)
        reach = extent[..., None] * torch.stack([xx, yy], dim=-1).sqrt()
        edge = reach.ceil()
        size = torch.tensor([width, height], device=means.device)
        inside = ((means2d + edge > 0) & (means2d - edge < size)).all(dim=-1)
        radii = torch.where(drawn & inside, edge.amax(dim=-1).clamp(max=2**30), nothing).to(torch.int32)
    conics = torch.stack([yy / det, -xy / det, xx / det], dim=-1)
    return Projection(means2d, depths, conics, opacities, reach, radii)


def composite(
    pixels: Tensor,  # [P, 2] pixel centers
    means2d: Tensor,  # [M, 2] front to back
    conics: Tensor,  # [M, 3]
    opacities: Tensor,  # [M]
    features: Tensor,  # [M, C]
    max_alpha: float,
) -> tuple[Tensor, Tensor]:
    """Composited features [P, C] without background, and the remaining transmittance [P]."""
    dx, dy = (pixels[:, None, :] - means2d[None]).unbind(-1)
    sigma = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alpha = (opacities * torch.exp(-sigma)).clamp(max=max_alpha)
    alpha = torch.where(alpha >= THRESHOLD, alpha, torch.zeros_like(alpha))
    # transmittance only decreases, so a pixel that stopped stays stopped
    with torch.no_grad():
        going = (1 - alpha).cumprod(dim=1) > STOP
    alpha = alpha * going
    after = (1 - alpha).cumprod(dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    return (alpha * before) @ features, after[:, -1]


class TorchRasterizer:
    """Pure torch; also differentiable in world_to_camera and K, and twice differentiable."""

    name = "torch"
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
        """See `Rasterizer.render`; every tensor is used in the dtype and on the device of `means`."""
        views = len(world_to_camera)
        p = project(
            means, quats, scales, opacities, world_to_camera.to(means), K.to(means), width, height, settings
        )
        info = RasterInfo(p.means2d.detach(), p.radii)
        if p.means2d.requires_grad:

            def keep(gradient: Tensor) -> None:
                info.gradient.append(gradient.detach())

            p.means2d.register_hook(keep)
        features = features.to(means.dtype).expand(views, *features.shape[-2:])
        background = torch.zeros_like(features[0, 0]) if background is None else background.to(means.dtype)
        background = background.expand(views, features.shape[-1])
        images, left = zip(
            *(_composite_view(p, b, features[b], width, height, settings.max_alpha) for b in range(views)),
            strict=True,
        )
        transmittance = torch.stack(left)
        image = torch.stack(images) + transmittance[..., None] * background[:, None, None]
        return image, 1 - transmittance, info


def _composite_view(
    p: Projection, b: int, features: Tensor, width: int, height: int, max_alpha: float
) -> tuple[Tensor, Tensor]:
    """Composite the tiles of camera `b`: features [H, W, C] and transmittance [H, W]."""
    lists = _tile_lists(p, b, width, height)
    # one gather for all tiles, because a gather per tile would add up one array of N per tile in backward
    everything = torch.cat(lists)
    sizes = [len(chosen) for chosen in lists]
    numbers = zip(
        *(t[everything].split(sizes) for t in (p.means2d[b], p.conics[b], p.opacities[b], features)),
        strict=True,
    )
    corners = [(y, x) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    rows: list[list[tuple[Tensor, Tensor]]] = []
    for (y0, x0), (means2d, conics, opacities, colors) in zip(corners, numbers, strict=True):
        if x0 == 0:
            rows.append([])
        box = y0, x0, min(y0 + TILE, height), min(x0 + TILE, width)
        rows[-1].append(_composite_tile(box, means2d, conics, opacities, colors, max_alpha))
    image = torch.cat([torch.cat([image for image, _ in row], dim=1) for row in rows])
    return image, torch.cat([torch.cat([left for _, left in row], dim=1) for row in rows])


@torch.no_grad()
def _tile_lists(p: Projection, b: int, width: int, height: int) -> list[Tensor]:
    """For each tile of camera `b`, row by row, the indices of its Gaussians from front to back."""
    visible = p.radii[b].nonzero().squeeze(-1)
    ids = visible[p.depths[b, visible].argsort(stable=True)]
    low, high = p.means2d[b, ids] - p.reach[b, ids] - 0.01, p.means2d[b, ids] + p.reach[b, ids] + 0.01
    lists: list[Tensor] = []
    for y in range(0, height, TILE):
        here = (high[:, 1] > y) & (low[:, 1] < y + TILE)
        row, left, right = ids[here], low[here, 0], high[here, 0]
        lists += [row[(right > x) & (left < x + TILE)] for x in range(0, width, TILE)]
    return lists


def _composite_tile(
    # y0, x0, y1, x1 in pixels
    box: tuple[int, int, int, int],
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    features: Tensor,
    max_alpha: float,
) -> tuple[Tensor, Tensor]:
    """Features [h, w, C] and transmittance [h, w] of one tile; recomputed in backward to save memory."""
    y0, x0, y1, x1 = box
    if len(means2d) == 0:
        return features.new_zeros(y1 - y0, x1 - x0, features.shape[1]), features.new_ones(y1 - y0, x1 - x0)
    ys, xs = torch.meshgrid(
        torch.arange(y0, y1, device=means2d.device, dtype=means2d.dtype) + 0.5,
        torch.arange(x0, x1, device=means2d.device, dtype=means2d.dtype) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([xs.flatten(), ys.flatten()], dim=1)
    splats = means2d, conics, opacities, features, max_alpha
    parts: list[tuple[Tensor, Tensor]] = []
    for some in pixels.split(max(1, PAIRS // len(means2d))):
        if torch.is_grad_enabled():
            parts.append(checkpoint(composite, some, *splats, use_reentrant=False))  # pyright: ignore
        else:
            parts.append(composite(some, *splats))
    image, left = (torch.cat(t).unflatten(0, (y1 - y0, x1 - x0)) for t in zip(*parts, strict=True))
    return image, left


register(Registration("torch", {"cuda": 20, "cpu": 10}, TorchRasterizer))
