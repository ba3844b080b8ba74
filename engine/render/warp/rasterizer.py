"""The Warp rasterizer: Warp projects, makes tile lists and composites, torch sorts. CUDA, and the CPU for tests."""
# pyright: basic

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from .. import torch_reference
from ..rasterizer import RasterInfo, RasterSettings
from ..torch_reference import Projection
from . import projection
from .kernels import GEOMETRY, PIXELS, TILE, compositing, count_tiles, list_tiles
from .launching import array, place, quiet

# channel counts with kernels of their own; other counts are padded, larger ones are composited in groups of the last
WIDTHS = (1, 3, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Lists:
    """Each tile's Gaussians from front to back. Gaussians are numbered camera · N + Gaussian.

    Args:
        tiles: Tiles along x and y.
        ends: First entry of each tile, and the number of entries [B·tiles + 1] int64.
        entries: Gaussians [E] int32.
        order: Place of each entry before sorting, Gaussian by Gaussian [E] int64.
        starts: First of these places of each Gaussian [B·N + 1] int64.
    """

    tiles: tuple[int, int]
    ends: Tensor
    entries: Tensor
    order: Tensor
    starts: Tensor


@torch.no_grad()
def tile_lists(p: Projection, width: int, height: int) -> Lists:
    """Sort the Gaussians of all tiles of all cameras by depth; equal depths keep the order of the Gaussians."""
    views, count = p.depths.shape
    device = p.depths.device
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    geometry = [
        array(p.means2d.reshape(-1, 2), wp.vec2),
        array(p.conics.reshape(-1, 3), wp.vec3),
        array(p.opacities.reshape(-1)),
        array(p.reach.reshape(-1, 2), wp.vec2),
        array(p.radii.reshape(-1)),
    ]
    counts = torch.empty(views * count, dtype=torch.int64, device=device)
    with place(device) as where:
        wp.launch(count_tiles, views * count, [*geometry, tiles_x, tiles_y], [array(counts)], device=where)
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        # the one number that the CPU waits for
        total = int(starts[-1])
        keys = torch.empty(total, dtype=torch.int64, device=device)
        gaussians = torch.empty(total, dtype=torch.int32, device=device)
        if total:
            depths = array(p.depths.reshape(-1))
            given = [*geometry, depths, array(starts), count, tiles_x, tiles_y]
            wp.launch(list_tiles, views * count, given, [array(keys), array(gaussians)], device=where)
    keys, order = keys.sort(stable=True)
    firsts = torch.arange(views * tiles_x * tiles_y + 1, device=device) << 32
    return Lists((tiles_x, tiles_y), torch.searchsorted(keys, firsts), gaussians[order], order, starts)


class _Composite(torch.autograd.Function):
    """Features [B, H, W, C] without background and transmittance [B, H, W], of at most WIDTHS[-1] channels."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        features: Tensor,
        lists: Lists,
        size: tuple[int, int],
        max_alpha: float,
        block: int,
    ) -> tuple[Tensor, Tensor]:
        (width, height), channels = size, features.shape[-1]
        wide = next(w for w in WIDTHS if w >= channels)
        composite, *_ = compositing(wide, block)
        colors = wp.types.vector(length=wide, dtype=float)
        table = torch.nn.functional.pad(features.detach(), (0, wide - channels)).reshape(-1, wide)
        image = means2d.new_empty(len(opacities), height, width, wide)
        transmittance = means2d.new_empty(len(opacities), height, width)
        ctx.splats = [
            array(means2d.reshape(-1, 2), wp.vec2),
            array(conics.reshape(-1, 3), wp.vec3),
            array(opacities.reshape(-1)),
            array(table, colors),
        ]
        ctx.lists_at = (array(lists.ends), array(lists.entries))
        ctx.rest = (float(max_alpha), *lists.tiles)
        drawn = [array(image, colors), array(transmittance)]
        with place(means2d.device) as where:
            wp.launch(
                composite,
                (len(lists.ends) - 1) * PIXELS,
                [*ctx.lists_at, *ctx.splats, *ctx.rest],
                drawn,
                device=where,
                block_dim=PIXELS,
            )
        ctx.lists, ctx.widths, ctx.block, ctx.shapes = lists, (channels, wide), block, opacities.shape
        # saved so that autograd notices when one is changed in place
        ctx.save_for_backward(means2d, conics, opacities, features, image, transmittance)
        return image[..., :channels], transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_image: Tensor, g_transmittance: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        means2d, _, _, _, image, transmittance = ctx.saved_tensors
        (channels, wide), lists = ctx.widths, ctx.lists
        _, backward, sums_of = compositing(wide, ctx.block)
        colors = wp.types.vector(length=wide, dtype=float)
        slot = wp.types.vector(length=GEOMETRY + wide, dtype=float)
        upstream = torch.nn.functional.pad(g_image, (0, wide - channels))
        # entries behind the last one that a tile shows are not visited
        slots = means2d.new_zeros(len(lists.entries), GEOMETRY + wide)
        sums = means2d.new_empty(len(lists.starts) - 1, GEOMETRY + wide)
        if len(lists.entries):
            drawn = [array(image, colors), array(transmittance)]
            given = [array(upstream, colors), array(g_transmittance)]
            with place(means2d.device) as where:
                wp.launch_tiled(
                    backward,
                    dim=[len(lists.ends) - 1],
                    inputs=[*ctx.lists_at, array(lists.order), *ctx.splats, *ctx.rest, *drawn, *given],
                    outputs=[array(slots, slot)],
                    device=where,
                    block_dim=ctx.block,
                )
                rows = [array(lists.starts), array(slots, slot)]
                wp.launch(sums_of, len(sums), rows, [array(sums, slot)], device=where)
        else:
            sums.zero_()
        sums = sums.view(*ctx.shapes, GEOMETRY + wide)
        return (
            sums[..., :2],
            sums[..., 2:5],
            sums[..., 5],
            sums[..., 6 : 6 + channels],
            None,
            None,
            None,
            None,
        )


class WarpRasterizer:
    """Rasterizes in float32 on a CUDA device without compiling anything but its own kernels, once per machine (seconds).

    On a CPU it runs the same source slowly, to be tested. Differentiable in world_to_camera and K too.

    Args:
        block: Threads that share a tile; None: a tile's pixels on a GPU, 1 on a CPU.
    """

    name = "warp"
    uses_own_threads = False

    def __init__(self, block: int | None = None) -> None:
        self.block = block
        with quiet():
            wp.init()

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
        """See `Rasterizer.render`; the images are float32."""
        views = len(world_to_camera)
        means, quats, scales, opacities = (t.float() for t in (means, quats, scales, opacities))
        pose, K = world_to_camera.to(means), K.to(means)
        # cameras that are optimized get their gradients from torch
        moving = torch.is_grad_enabled() and (pose.requires_grad or K.requires_grad)
        project = torch_reference.project if moving else projection.project
        p = project(means, quats, scales, opacities, pose, K, width, height, settings)
        info = RasterInfo(p.means2d.detach(), p.radii)
        if p.means2d.requires_grad:

            def keep(gradient: Tensor) -> None:
                info.gradient.append(gradient.detach())

            p.means2d.register_hook(keep)
        features = features.float().expand(views, *features.shape[-2:])
        lists = tile_lists(p, width, height)
        block = self.block or (PIXELS if means.is_cuda else 1)
        images, left = zip(
            *(
                _Composite.apply(  # pyright: ignore
                    p.means2d, p.conics, p.opacities, group, lists, (width, height), settings.max_alpha, block
                )
                for group in features.split(WIDTHS[-1], dim=-1)
            ),
            strict=True,
        )
        # the same for each group of channels
        transmittance = left[0]
        image = images[0] if len(images) == 1 else torch.cat(images, dim=-1)
        if background is not None:
            behind = background.to(image).expand(views, features.shape[-1])
            image = image + transmittance[..., None] * behind[:, None, None]
        return image, 1 - transmittance, info
