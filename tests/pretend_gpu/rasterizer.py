"""Rasterizers for the pretend GPU: one that draws with the CPU's, and Warp's own code with its kernels on the CPU."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from engine.errors import InputError
from engine.render import choose
from engine.render.rasterizer import RasterInfo, RasterSettings
from engine.render.registry import Registration, register, unregister
from tests.pretend_gpu.device import PretendGPU, PretendTensor

NAME = "pretend"


class _Draw(torch.autograd.Function):
    """The CPU's rasterizer on the held values; one operator for torch."""

    @staticmethod
    def forward(ctx: Any, draw: Any, info: RasterInfo, *tensors: PretendTensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        leaves = [tensor.held.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            image, alpha, ctx.info = draw(*leaves)
        ctx.leaves, ctx.drawn, ctx.given = leaves, (image, alpha), info
        info.means2d, info.radii = PretendTensor(ctx.info.means2d), PretendTensor(ctx.info.radii)
        return PretendTensor(image.detach()), PretendTensor(alpha.detach())

    @staticmethod
    def backward(ctx: Any, *grads: PretendTensor) -> Any:  # pyright: ignore
        given = [torch.zeros_like(d) if g is None else g.held for d, g in zip(ctx.drawn, grads, strict=True)]
        torch.autograd.backward(ctx.drawn, given)
        ctx.given.gradient.append(PretendTensor(ctx.info.means2d_gradient))
        return None, None, *(None if leaf.grad is None else PretendTensor(leaf.grad) for leaf in ctx.leaves)


class PretendRasterizer:
    """Refuses CPU tensors, and waits for nothing."""

    name = NAME
    uses_own_threads = False

    def __init__(self) -> None:
        self.inner = choose("auto", "cpu")

    def render(
        self,
        means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor, world_to_camera: Tensor,
        K: Tensor, width: int, height: int, background: Tensor | None = None,
        settings: RasterSettings = RasterSettings(),
    ) -> tuple[Tensor, Tensor, RasterInfo]:  # fmt: skip
        """See `Rasterizer.render`."""
        behind = features.new_zeros(features.shape[-1]) if background is None else background
        cameras = (world_to_camera, K)
        splats = (means, quats, scales, opacities, features, behind)
        if not all(isinstance(tensor, PretendTensor) for tensor in (*splats, *cameras)):
            raise InputError("REN-004", "The pretend rasterizer needs tensors of the pretend GPU.")

        def draw(*leaves: Tensor) -> tuple[Tensor, Tensor, RasterInfo]:
            *rest, behind = leaves
            pose, intrinsics = (tensor.held for tensor in cameras)  # pyright: ignore
            return self.inner.render(*rest, pose, intrinsics, width, height, behind, settings)

        info = RasterInfo(means, means)
        image, alpha = _Draw.apply(draw, info, *splats)  # pyright: ignore
        return image, alpha, info


@contextmanager
def rasterizer_on(gpu: PretendGPU) -> Generator[str]:
    """The name under which configs find `PretendRasterizer`, which "auto" takes on the GPU too."""
    register(Registration(NAME, {"cuda": 1000}, PretendRasterizer))
    try:
        yield NAME
    finally:
        unregister(NAME)
