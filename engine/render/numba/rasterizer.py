"""The CPU rasterizer: numba kernels behind the `Rasterizer` protocol, differentiable, any channel count, many cameras.

Stages of a call: project, sort by depth (projection.py) → cover, bin (tiles.py) → composite (composite.py), and backward:
composite_backward → unproject (unprojection.py). plan.py launches all before compositing; structs.py defines the data between
them.
Each item of a stage writes only its own output and adds in a fixed order, so the bits do not depend on the thread count.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import llvmlite.binding as llvm
import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...kernels.build import cache_folder, launch
from ...kernels.simd import WIDTH
from ..rasterizer import RasterInfo, RasterSettings
from .composite import composite, composite_backward
from .groups import GEOMETRY
from .plan import SOME_GAUSSIANS, Plan, groups_of, make_plan
from .structs import Canvas, Features, Gradients, Settings, Slots, Splats, Upstream, Views, Wanted
from .unprojection import unproject

log = logging.getLogger("gs4d")

# channel counts with a kernel of their own; larger counts are padded to groups of 8. Masks take the kernel of colors: one of
# their own would be 10 to 15 % faster, and take ten seconds to compile on a new machine
DIRECT = (3, 4)
GROUP = 8
COMPILE_TIME = "about ten seconds"


def padded(channels: int) -> tuple[int, int]:
    """(channels as the kernels see them, how many of them are kept in registers at once)."""
    if channels <= DIRECT[-1]:
        width = next(c for c in DIRECT if c >= channels)
        return width, width
    return -(-channels // GROUP) * GROUP, GROUP


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _cameras(world_to_camera: Tensor, K: Tensor) -> np.ndarray:
    """[B, 16], see `Views`."""
    cameras = np.empty((len(world_to_camera), 16))
    pose, intrinsics = world_to_camera.detach().double().numpy(), K.detach().double().numpy()
    cameras[:, :9] = pose[:, :3, :3].reshape(len(cameras), 9)
    cameras[:, 9:12] = pose[:, :3, 3]
    cameras[:, 12:] = intrinsics[:, (0, 1, 0, 1), (0, 1, 2, 2)]
    return cameras


def _padded(tensor: Tensor, width: int) -> Tensor:
    """Pad the last axis with zeros to `width`, without the copy that F.pad makes even for no padding."""
    missing = width - tensor.shape[-1]
    return torch.nn.functional.pad(tensor.detach(), (0, missing)) if missing else tensor.detach()


def _settings(s: RasterSettings) -> Settings:
    return Settings(float(s.near), float(s.far), float(s.eps2d), float(s.max_alpha), bool(s.antialiased))


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
        views: Views,
        settings: RasterSettings,
        info: RasterInfo,
    ) -> tuple[Tensor, Tensor]:
        count, channels = len(views.cameras), features.shape[-1]
        wide, kept = padded(channels)
        splats = Splats(_array(means), _array(quats), _array(scales), _array(opacities))
        plan = make_plan(splats, views, _settings(settings))
        info.means2d = torch.from_numpy(plan.means2d).reshape(count, len(means), 2)
        info.radii = torch.from_numpy(plan.radii).reshape(count, len(means))
        table = Features(_array(_padded(features, wide).reshape(-1, wide)), features.dim() == 3)
        shape = (count, views.height, views.width)
        picture = torch.empty(*shape, wide, dtype=means.dtype)
        canvas = Canvas(picture.numpy(), np.empty(shape, plan.geometry.dtype))
        launch(
            composite, len(plan.lists.ends), plan.tiles_at_once, views, plan.lists, plan.geometry, table,
            _array(_padded(background, wide).expand(count, wide)), plan.settings, (0,) * kept, canvas,
        )  # fmt: skip
        ctx.plan, ctx.table, ctx.canvas = plan, table, canvas
        ctx.info, ctx.channels, ctx.shapes = info, channels, (features.shape, background.shape)
        if wide > channels:
            picture = picture[..., :channels].clone()
        # saved so that autograd notices when one is changed in place: the plan's arrays share their memory
        ctx.save_for_backward(means, quats, scales, opacities, features, picture)
        return picture, 1 - torch.from_numpy(canvas.transmittance)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_image: Tensor, g_alpha: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        plan: Plan = ctx.plan
        table: Features = ctx.table
        canvas: Canvas = ctx.canvas
        _ = ctx.saved_tensors
        needs = ctx.needs_input_grad
        wanted = Wanted(shape=any(needs[:4]), features=bool(needs[4]))
        dtype = plan.geometry.dtype
        wide, kept = padded(ctx.channels)
        g_background = None
        if needs[5]:
            g_background = (torch.from_numpy(canvas.transmittance)[..., None] * g_image).sum((1, 2))
            g_background = g_background.sum_to_size(ctx.shapes[1])
        if not (wanted.shape or wanted.features):
            return (None,) * 5 + (g_background,) + (None,) * 3
        upstream = Upstream(_array(_padded(g_image, wide)), _array(g_alpha))
        shape = (len(plan.lists.masks), GEOMETRY + (wide if wanted.features else 0))
        # `unproject` reads whole vectors, beyond the last slot too
        slots = np.empty(shape[0] * shape[1] + WIDTH, dtype)[:-WIDTH].reshape(shape)
        slots[np.flatnonzero(plan.lists.masks == 0)] = 0
        launch(
            composite_backward, len(plan.lists.ends), plan.tiles_at_once, plan.views, plan.lists, plan.geometry, table,
            plan.settings, (0,) * kept, canvas, upstream, wanted, slots,
        )  # fmt: skip
        gradients = Gradients(
            np.zeros((len(plan.geometry), 2), dtype),
            *(np.empty_like(a) for a in plan.splats),
            np.zeros_like(table.rows),
        )
        launch(
            unproject, groups_of(len(plan.splats.means)), SOME_GAUSSIANS // WIDTH,
            plan.splats, plan.views, plan.settings, plan.geometry,
            Slots(plan.slot_starts, slots), table.per_camera, wanted.shape, gradients,
        )  # fmt: skip
        if wanted.shape:
            ctx.info.gradient.append(
                torch.from_numpy(gradients.means2d).reshape(len(plan.views.cameras), -1, 2)
            )
        of_splats = (gradients.means, gradients.quats, gradients.scales, gradients.opacities)
        g_shape = [torch.from_numpy(g) if need else None for g, need in zip(of_splats, needs, strict=False)]
        g_rows = None
        if wanted.features:
            g_rows = torch.from_numpy(gradients.features)[:, : ctx.channels].reshape(ctx.shapes[0])
        return (*g_shape, g_rows, g_background, None, None, None)


def _marker(channels: int, dtype: torch.dtype) -> Path | None:
    """A file that exists once these kernels are compiled for this CPU."""
    folder = cache_folder()
    width = "many" if channels > DIRECT[-1] else padded(channels)[0]
    name = f"{width}-{str(dtype).split('.')[-1]}-{llvm.get_host_cpu_name()}.ready"
    return None if folder is None else folder / name


class NumbaRasterizer:
    """Rasterizes on the CPU with exact gradients, in float32 or float64; compiled on first use (seconds, once per machine)."""

    name = "numba"
    uses_own_threads = True
    _ready: ClassVar[set[tuple[int, torch.dtype]]] = set()

    @classmethod
    def needs_compiling(cls, channels: int, dtype: torch.dtype = torch.float32) -> bool:
        """Whether the first call with this channel count will compile for seconds."""
        marker = _marker(channels, dtype)
        return (padded(channels)[1], dtype) not in cls._ready and (marker is None or not marker.exists())

    @classmethod
    def warm_up(cls, channels: int, dtype: torch.dtype = torch.float32) -> bool:
        """Compile or load the kernels for a channel count; True if they had to be compiled. Fast when repeated."""
        if (padded(channels)[1], dtype) in cls._ready:
            return False
        compiling = cls.needs_compiling(channels, dtype)
        if compiling:
            log.info(
                "compiling the CPU rasterizer (%s channels): %s, once per machine", channels, COMPILE_TIME
            )
        # the first call may be without gradients or in inference mode, but backward must be compiled too
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
        views = Views(_cameras(world_to_camera, K), width, height)
        if background is None:
            background = features.new_zeros(features.shape[-1])
        # both are replaced while rendering
        info = RasterInfo(means2d=means, radii=means)
        image, alpha = _Rasterize.apply(  # pyright: ignore
            means, quats, scales, opacities, features, background, views, settings, info
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
        """See `Rasterizer.render`. Float64 means give a float64 image, any other type float32.

        world_to_camera and K do not receive gradients. Raises InputError if the tensors are not on the CPU.
        """
        if means.device.type != "cpu":
            raise InputError(
                "REN-004",
                f"The numba rasterizer needs CPU tensors, but these are on {means.device}; choose rasterizer 'auto'.",
            )
        dtype = torch.float64 if means.dtype == torch.float64 else torch.float32
        self.warm_up(features.shape[-1], dtype)
        tensors = [t.to(dtype) for t in (means, quats, scales, opacities, features)]
        background = None if background is None else background.to(dtype)
        return self._render(*tensors, world_to_camera, K, width, height, background, settings)
