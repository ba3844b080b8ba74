"""The rasterizer in plain torch: any dtype, any device; the float64 oracle of the others, and the last resort.

It is meant to be read: projection is EWA splatting (Zwicker et al. 2001, eq. 31) with gsplat 1.5's conventions,
compositing is Kerbl et al. 2023, eq. 3. Memory stays bounded: tiles are composited one after the other, and once more
in the backward pass.
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
THRESHOLD = 1 / 255  # weaker contributions are skipped
STOP = 1e-4  # a pixel stops before its transmittance would fall to this
PAIRS = 2**22  # (pixel, Gaussian) pairs composited at once


@dataclass(frozen=True, eq=False)
class Projection:
    """Ellipses on B pictures; entries of Gaussians that are not visible are finite but meaningless."""

    means2d: Tensor  # [B, N, 2] pixels
    depths: Tensor  # [B, N] world units along the viewing axis
    conics: Tensor  # [B, N, 3] entries xx, xy, yy of the inverse covariance, 1/pixels²
    opacities: Tensor  # [B, N], compensated where antialiased
    reach: Tensor  # [B, N, 2] pixels from the centre to where alpha falls below 1/255
    radii: Tensor  # [B, N] int32 pixels, 0 = not visible


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
    """EWA projection of Gaussians on pictures, differentiable."""
    rotation = world_to_camera[:, None, :3, :3]
    points = (rotation @ means[None, :, :, None]).squeeze(-1) + world_to_camera[:, None, :3, 3]
    depths = points[..., 2]
    in_range = (depths >= settings.near) & (depths <= settings.far) & (depths > 0)
    z = torch.where(in_range, depths, torch.ones_like(depths))
    fx, fy, cx, cy = (K[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    u, v = points[..., 0] / z, points[..., 1] / z
    means2d = torch.stack([fx * u + cx, fy * v + cy], dim=-1)
    # rays far outside the picture would blow the linearisation up: it is taken at most 0.15 pictures beyond the border
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
    pixels: Tensor,  # [P, 2] pixel centres
    means2d: Tensor,  # [M, 2] front to back
    conics: Tensor,  # [M, 3]
    opacities: Tensor,  # [M]
    features: Tensor,  # [M, C]
    max_alpha: float,
) -> tuple[Tensor, Tensor]:
    """Features [P, C] without background and the transmittance [P] that is left."""
    dx, dy = (pixels[:, None, :] - means2d[None]).unbind(-1)
    sigma = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alpha = (opacities * torch.exp(-sigma)).clamp(max=max_alpha)
    alpha = torch.where(alpha >= THRESHOLD, alpha, torch.zeros_like(alpha))
    with torch.no_grad():  # transmittance only falls: once it would be too low, it stays so
        going = (1 - alpha).cumprod(dim=1) > STOP
    alpha = alpha * going
    after = (1 - alpha).cumprod(dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    return (alpha * before) @ features, after[:, -1]


class TorchRasterizer:
    """Pure torch; also differentiable in world_to_camera and K, and twice."""

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
            *(self._picture(p, b, features[b], width, height, settings) for b in range(views)), strict=True
        )
        transmittance = torch.stack(left)
        image = torch.stack(images) + transmittance[..., None] * background[:, None, None]
        return image, 1 - transmittance, info

    @staticmethod
    def _picture(
        p: Projection, b: int, features: Tensor, width: int, height: int, settings: RasterSettings
    ) -> tuple[Tensor, Tensor]:
        """One camera's features [H, W, C] and transmittance [H, W]."""
        corners = [(y, x) for y in range(0, height, TILE) for x in range(0, width, TILE)]
        lists: list[Tensor] = []  # for each tile, its Gaussians front to back
        with torch.no_grad():
            visible = p.radii[b].nonzero().squeeze(-1)
            ids = visible[p.depths[b, visible].argsort(stable=True)]
            low, high = p.means2d[b, ids] - p.reach[b, ids] - 0.01, p.means2d[b, ids] + p.reach[b, ids] + 0.01
            for y in range(0, height, TILE):
                here = (high[:, 1] > y) & (low[:, 1] < y + TILE)
                row, left, right = ids[here], low[here, 0], high[here, 0]
                lists += [row[(right > x) & (left < x + TILE)] for x in range(0, width, TILE)]
        # one gather for all tiles: a gather for each would make backward add up one array of N for each
        everything = torch.cat(lists)
        sizes = [len(chosen) for chosen in lists]
        numbers = zip(
            *(t[everything].split(sizes) for t in (p.means2d[b], p.conics[b], p.opacities[b], features)),
            strict=True,
        )
        rows: list[list[tuple[Tensor, Tensor]]] = []
        for (y0, x0), (means2d, conics, opacities, colors) in zip(corners, numbers, strict=True):
            y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
            if x0 == 0:
                rows.append([])
            if len(means2d) == 0:
                image = features.new_zeros(y1 - y0, x1 - x0, features.shape[1])
                rows[-1].append((image, features.new_ones(y1 - y0, x1 - x0)))
                continue
            ys, xs = torch.meshgrid(
                torch.arange(y0, y1, device=low.device, dtype=low.dtype) + 0.5,
                torch.arange(x0, x1, device=low.device, dtype=low.dtype) + 0.5,
                indexing="ij",
            )
            pixels = torch.stack([xs.flatten(), ys.flatten()], dim=1)
            parts: list[tuple[Tensor, Tensor]] = []
            for some in pixels.split(max(1, PAIRS // len(means2d))):
                if torch.is_grad_enabled():
                    parts.append(
                        checkpoint(
                            composite,
                            some,
                            means2d,
                            conics,
                            opacities,
                            colors,
                            settings.max_alpha,
                            use_reentrant=False,
                        )
                    )  # pyright: ignore
                else:
                    parts.append(composite(some, means2d, conics, opacities, colors, settings.max_alpha))
            image, left_over = (
                torch.cat(t).unflatten(0, (y1 - y0, x1 - x0)) for t in zip(*parts, strict=True)
            )
            rows[-1].append((image, left_over))
        image = torch.cat([torch.cat([image for image, _ in row], dim=1) for row in rows])
        return image, torch.cat([torch.cat([left for _, left in row], dim=1) for row in rows])


register(Registration("torch", {"cuda": 20, "cpu": 10}, TorchRasterizer))
