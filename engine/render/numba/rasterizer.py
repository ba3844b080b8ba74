"""The CPU rasterizer: numba kernels behind the `Rasterizer` protocol, differentiable, any channel count, many cameras.

Stages of a call: project, sort by depth (projection.py) → cover, bin (tiles.py) → composite (composite.py).
Every stage writes only what its own item owns and adds in a fixed order: the bits do not depend on the thread count.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import llvmlite.binding as llvm
import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..rasterizer import RasterInfo, RasterSettings
from ..threads import threads_now
from .build import cache_folder, launch
from .composite import composite, composite_backward
from .projection import GEOMETRY, TILE, order, project, unproject
from .tiles import bin_tiles, cover

log = logging.getLogger("gs4d")

DIRECT = (
    1,
    3,
    4,
)  # channel counts with a kernel of their own; 2 is padded to 3, larger counts to groups of 8
GROUP = 8
# the least work worth handing to a thread, about 0.3 ms: Gaussians, and entries of tile lists
SOME_GAUSSIANS, SOME_ENTRIES = 4096, 8192
COMPILE_TIME = "about ten seconds"


def padded(channels: int) -> tuple[int, int]:
    """(channels as the kernels see them, how many of them are kept in registers at once)."""
    if channels <= DIRECT[-1]:
        width = next(c for c in DIRECT if c >= channels)
        return width, width
    return -(-channels // GROUP) * GROUP, GROUP


def _array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    return tensor.detach().to(dtype).contiguous().numpy()


@dataclass(eq=False)
class _Plan:
    """What the forward pass found and the backward pass needs again; plain arrays."""

    arrays: tuple[Any, ...]  # means, quats, scales, opacities, cameras
    size: tuple[int, int]
    settings: RasterSettings
    geometry: np.ndarray  # [B·N, 6]
    positions: np.ndarray  # [B, N] int64: place in `slot_starts`, -1 where not drawn
    slot_starts: np.ndarray  # [places + 1] int64
    ends: np.ndarray  # [B·tiles] int64
    entries: np.ndarray  # [E] int32: camera · N + Gaussian, tile by tile, front to back
    entry_slots: np.ndarray  # [E] int64
    masks: np.ndarray  # [S] uint16: the 4×4 blocks of a tile that a Gaussian reaches
    features: np.ndarray  # [N or B·N, C']
    feature_rows: int  # cameras with features of their own: 1 or B
    image: np.ndarray  # [B, H, W, C']
    transmittance: np.ndarray  # [B, H, W]


def _plan(arrays: tuple[np.ndarray, ...], size: tuple[int, int], settings: RasterSettings) -> tuple[Any, ...]:
    """Projection, depth order, tile lists: (geometry, radii, positions, slot starts, ends, entries, slots, masks)."""
    means, _, _, _, cameras = arrays
    width, height = size
    count, views, dtype = len(means), len(cameras), means.dtype
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    geometry = np.empty((views * count, GEOMETRY), dtype)
    depths = np.empty((views, count), dtype)
    radii = np.empty(views * count, np.int32)
    tiles = np.empty((views * count, 4), np.int32)
    s = settings
    launch(
        project, views * count, SOME_GAUSSIANS, *arrays, width, height,
        s.near, s.far, s.eps2d, s.antialiased, geometry, depths.reshape(-1), radii, tiles,
    )  # fmt: skip
    ids = np.empty((views, count), np.int32)
    local = np.empty((views, count + 1), np.int64)
    counts = np.empty(views, np.int64)
    keys = depths.view(np.uint32 if dtype == np.float32 else np.uint64)
    launch(order, views, 1, keys, tiles.reshape(views, count, 4), ids, local, counts)
    bases = np.concatenate([[0], np.cumsum(counts)])
    starts = np.zeros(int(bases[-1]) + 1, np.int64)
    total = 0
    for b in range(views):
        n = int(counts[b])
        starts[bases[b] : bases[b] + n + 1] = local[b, : n + 1] + total
        total += int(local[b, n])
    masks = np.empty(total, np.uint16)
    positions = np.full(views * count, -1, np.int64)
    launch(
        cover,
        views * count,
        SOME_GAUSSIANS,
        count,
        ids,
        bases,
        counts,
        starts,
        tiles,
        geometry,
        masks,
        positions,
    )
    bands = min(tiles_y, 2 * threads_now()) if count > 4 * SOME_GAUSSIANS else 1
    ends = np.zeros(views * tiles_x * tiles_y, np.int64)
    common = (count, bands, width, height, ids, bases, counts, starts, tiles, masks)
    launch(bin_tiles, views * bands, 1, *common, ends, np.empty(0, np.int32), np.empty(0, np.int64))
    sizes = ends.copy()
    np.cumsum(sizes, out=ends)
    entries, entry_slots = np.empty(int(ends[-1]), np.int32), np.empty(int(ends[-1]), np.int64)
    ends -= sizes
    if len(entries):
        launch(bin_tiles, views * bands, 1, *common, ends, entries, entry_slots)
    return geometry, radii, positions.reshape(views, count), starts, ends, entries, entry_slots, masks


def _tiles_at_once(entries: np.ndarray, ends: np.ndarray) -> int:
    """How many tiles hold SOME_ENTRIES on average."""
    return max(1, len(ends) * SOME_ENTRIES // max(1, len(entries)))


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        features: Tensor,
        background: Tensor,
        cameras: Tensor,
        size: tuple[int, int],
        settings: RasterSettings,
        info: RasterInfo,
    ) -> tuple[Tensor, Tensor]:
        dtype = means.dtype
        arrays = (
            *(_array(t, dtype) for t in (means, quats, scales, opacities)),
            _array(cameras, torch.float64),
        )
        views, count, (width, height) = len(cameras), len(means), size
        channels = features.shape[-1]
        wide, kept = padded(channels)
        geometry, radii, *lists = _plan(arrays, size, settings)
        positions, starts, ends, entries, entry_slots, masks = lists
        info.means2d = torch.from_numpy(geometry[:, :2].copy()).reshape(views, count, 2)
        info.radii = torch.from_numpy(radii).reshape(views, count)
        rows = torch.nn.functional.pad(features.detach(), (0, wide - channels)).reshape(-1, wide)
        behind = torch.nn.functional.pad(background.detach(), (0, wide - channels)).expand(views, wide)
        picture = torch.empty(views, height, width, wide, dtype=dtype)
        image = picture.numpy()
        transmittance = np.empty((views, height, width), geometry.dtype)
        plan = _Plan(
            arrays, size, settings, geometry, positions, starts, ends, entries, entry_slots, masks,
            _array(rows, dtype), 1 if features.dim() == 2 else views, image, transmittance,
        )  # fmt: skip
        launch(
            composite, len(ends), _tiles_at_once(entries, ends),
            width, height, count, ends, entries, entry_slots, masks, geometry,
            plan.features, plan.feature_rows, _array(behind, dtype), settings.max_alpha, (0,) * kept,
            image, transmittance,
        )  # fmt: skip
        ctx.plan, ctx.info, ctx.channels, ctx.shapes = (
            plan,
            info,
            channels,
            (features.shape, background.shape),
        )
        if wide > channels:
            picture = picture[..., :channels].clone()
        # saved so that autograd notices when one is changed in place: the plan's arrays share their memory
        ctx.save_for_backward(means, quats, scales, opacities, features, picture)
        return picture, 1 - torch.from_numpy(transmittance)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_image: Tensor, g_alpha: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        plan: _Plan = ctx.plan
        _ = ctx.saved_tensors
        means, quats, scales, opacities, cameras = plan.arrays
        needs = ctx.needs_input_grad
        shape_wanted, features_wanted = any(needs[:4]), bool(needs[4])
        (width, height), dtype = plan.size, plan.geometry.dtype
        wide, kept = padded(ctx.channels)
        g_background = None
        if needs[5]:
            g_background = (torch.from_numpy(plan.transmittance)[..., None] * g_image).sum((1, 2))
            g_background = g_background.sum_to_size(ctx.shapes[1])
        if not (shape_wanted or features_wanted):
            return (None,) * 5 + (g_background,) + (None,) * 4
        torch_dtype = torch.from_numpy(means).dtype
        upstream = _array(torch.nn.functional.pad(g_image, (0, wide - ctx.channels)), torch_dtype)
        slots = np.empty((len(plan.masks), GEOMETRY + (wide if features_wanted else 0)), dtype)
        slots[plan.masks == 0] = 0
        launch(
            composite_backward, len(plan.ends), _tiles_at_once(plan.entries, plan.ends),
            width, height, len(means), plan.ends, plan.entries,
            plan.entry_slots, plan.masks, plan.geometry, plan.features, plan.feature_rows, plan.settings.max_alpha,
            (0,) * kept, plan.image, plan.transmittance, upstream, _array(g_alpha, torch_dtype),
            shape_wanted, features_wanted, slots,
        )  # fmt: skip
        g_means2d = np.zeros((plan.geometry.shape[0], 2), dtype)
        gradients = tuple(np.empty_like(a) for a in (means, quats, scales, opacities))
        g_features = np.zeros_like(plan.features)
        launch(
            unproject, len(means), SOME_GAUSSIANS,
            means, quats, scales, opacities, cameras, width, height,
            plan.settings.eps2d, plan.settings.antialiased, plan.geometry, plan.positions, plan.slot_starts, slots,
            wide if features_wanted else 0, plan.feature_rows, shape_wanted, g_means2d, *gradients, g_features,
        )  # fmt: skip
        if shape_wanted:
            ctx.info.gradient.append(torch.from_numpy(g_means2d).reshape(len(cameras), len(means), 2))
        g_shape = [torch.from_numpy(g) if need else None for g, need in zip(gradients, needs, strict=False)]
        g_rows = None
        if features_wanted:
            g_rows = torch.from_numpy(g_features)[:, : ctx.channels].reshape(ctx.shapes[0])
        return (*g_shape, g_rows, g_background, None, None, None, None)


def _marker(channels: int, dtype: torch.dtype) -> Path | None:
    """A file that says: these kernels are compiled for this processor."""
    folder = cache_folder()
    width = "many" if channels > DIRECT[-1] else padded(channels)[0]
    name = f"{width}-{str(dtype).split('.')[-1]}-{llvm.get_host_cpu_name()}.ready"
    return None if folder is None else folder / name


class NumbaRasterizer:
    """Rasterizes on the CPU; compiled on first use (seconds, once a machine), exact gradients, float32 or float64."""

    name = "numba"
    uses_own_threads = True
    _ready: ClassVar[set[tuple[int, torch.dtype]]] = set()

    @classmethod
    def needs_compiling(cls, channels: int, dtype: torch.dtype = torch.float32) -> bool:
        """Whether the first call with that many channels will spend seconds in the compiler."""
        marker = _marker(channels, dtype)
        return (padded(channels)[1], dtype) not in cls._ready and (marker is None or not marker.exists())

    @classmethod
    def warm_up(cls, channels: int, dtype: torch.dtype = torch.float32) -> bool:
        """Compile or load the kernels for a channel count; True where they had to be compiled. Cheap when repeated."""
        if (padded(channels)[1], dtype) in cls._ready:
            return False
        compiling = cls.needs_compiling(channels, dtype)
        if compiling:
            log.info(
                "compiling the CPU rasterizer (%s channels): %s, once on this machine", channels, COMPILE_TIME
            )
        # the first picture may be drawn without gradients or in inference mode; backward is wanted all the same
        with torch.inference_mode(False), torch.enable_grad():
            shapes = ((1, 3), (1, 4), (1, 3), (1,), (1, channels))
            leaves = [torch.ones(shape, dtype=dtype, requires_grad=True) for shape in shapes]
            camera, K = torch.eye(4)[None], torch.eye(3)[None]
            image, alpha, _ = cls._render(*leaves, camera, K, 1, 1, None, RasterSettings())
            (image.sum() + alpha.sum()).backward()
        cls._ready.add((padded(channels)[1], dtype))
        marker = _marker(channels, dtype)
        if marker is not None:
            marker.touch()
        return compiling

    @staticmethod
    def _render(
        means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor, world_to_camera: Tensor,
        K: Tensor, width: int, height: int, background: Tensor | None, settings: RasterSettings,
    ) -> tuple[Tensor, Tensor, RasterInfo]:  # fmt: skip
        cameras = torch.cat(
            [
                world_to_camera[:, :3, :3].double().flatten(1),
                world_to_camera[:, :3, 3].double(),
                torch.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]], dim=1).double(),
            ],
            dim=1,
        ).detach()
        if background is None:
            background = features.new_zeros(features.shape[-1])
        info = RasterInfo(means2d=means, radii=means)  # both are replaced while rendering
        image, alpha = _Rasterize.apply(  # pyright: ignore
            means, quats, scales, opacities, features, background, cameras, (width, height), settings, info
        )
        return image, alpha, info

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
        """See `Rasterizer.render`. Float64 means give a float64 picture, any other type float32.

        No gradient reaches world_to_camera and K. Raises InputError for tensors that are not on the CPU.
        """
        if means.device.type != "cpu":
            raise InputError(
                f"The numba rasterizer works on CPU tensors, not on {means.device}; choose rasterizer 'auto'."
            )
        dtype = torch.float64 if means.dtype == torch.float64 else torch.float32
        self.warm_up(features.shape[-1], dtype)
        tensors = [t.to(dtype) for t in (means, quats, scales, opacities, features)]
        background = None if background is None else background.to(dtype)
        return self._render(*tensors, world_to_camera, K, width, height, background, settings)
