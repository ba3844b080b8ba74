"""gsplat's own Python code on the CPU, with its kernels replaced by dense ones: for its exchange between processes.

The kernels' stand-in lies outside the project (tools/gpu_standins/gsplat_stub.py in the shared folder). gloo exchanges parts of
one size only, and NCCL, which gsplat is written for, parts of any size: `_all_to_all` does that with gloo.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.render import Registration, gsplat_cuda, register

NAME = "gsplat on the CPU"
STANDIN = Path(__file__).resolve().parents[2] / "shared" / "tools" / "gpu_standins" / "gsplat_stub.py"


class OnCpu(gsplat_cuda.GsplatRasterizer):
    name = NAME


def why_not() -> str:
    """Why gsplat's code cannot be run here, in a sentence; else empty."""
    if importlib.util.find_spec("gsplat") is None:
        return "gsplat is not installed (pip install gsplat; no CUDA is needed for this)"
    return "" if STANDIN.is_file() else "the stand-in for gsplat's kernels is not here"


def _all_to_all(received: list[Tensor], sent: list[Tensor]) -> None:
    """torch.distributed.all_to_all; the parts are rows [n, C]."""
    flat = received[0].new_empty(sum(map(len, received)), *received[0].shape[1:])
    dist.all_to_all_single(flat, torch.cat(sent), list(map(len, received)), list(map(len, sent)))
    for part, values in zip(received, flat.split(list(map(len, received))), strict=True):
        part.copy_(values)


class _AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, received: list[Tensor], *sent: Tensor) -> tuple[Tensor, ...]:
        ctx.sent = [torch.empty_like(part) for part in sent]
        _all_to_all(received, [part.contiguous() for part in sent])
        return tuple(received)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        _all_to_all(ctx.sent, [grad.contiguous() for grad in grads])
        return None, *ctx.sent


def _differentiable_all_to_all(received: list[Tensor], sent: tuple[Tensor, ...]) -> Any:
    return _AllToAll.apply(received, *sent)


def prepare() -> None:
    """Replace gsplat's kernels, and register the rasterizer NAME for the CPU."""
    spec = importlib.util.spec_from_file_location("gsplat_stub", STANDIN)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    import gsplat.rendering as rendering  # pyright: ignore
    from gsplat.cuda._torch_impl import _spherical_harmonics  # pyright: ignore

    def spherical_harmonics(degree: int, directions: Tensor, sh: Tensor, masks: Any = None) -> Tensor:
        return _spherical_harmonics(degree, directions, sh)

    def all_gather_int32(size: int, value: int, device: Any = None) -> list[int]:
        # gsplat's own asserts that the number is on a GPU
        found = [torch.zeros(1, dtype=torch.int32) for _ in range(size)]
        dist.all_gather(found, torch.tensor([value], dtype=torch.int32))
        return [int(each) for each in found]

    import gsplat.distributed as exchange  # pyright: ignore
    import torch.distributed.nn.functional as differentiable

    exchange.distF = SimpleNamespace(
        all_gather=differentiable.all_gather, all_to_all=_differentiable_all_to_all
    )
    dist.all_to_all = _all_to_all
    rendering.spherical_harmonics = spherical_harmonics
    rendering.all_gather_int32 = all_gather_int32
    gsplat_cuda._check_device = lambda means: None  # pyright: ignore[reportPrivateUsage]
    register(Registration(NAME, {"cpu": 1}, OnCpu))
