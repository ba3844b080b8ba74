"""Gaussians as rasterizers take them: activated, with colors from spherical harmonics toward each camera."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import backends
from ..scene import Cameras, Gaussians, harmonics

# that a thread takes at least
SOME_GAUSSIANS = 1024
# of the SH bases, as the kernel takes them
CONSTANTS = torch.tensor([harmonics.C0, harmonics.C1, *harmonics.C2, *harmonics.C3], dtype=torch.float64)


class Shaded(NamedTuple):
    """N Gaussians seen by B cameras."""

    quats: Tensor  # [N, 4] wxyz, unit
    scales: Tensor  # [N, 3] linear, in world units
    opacities: Tensor  # [N] in 0..1
    colors: Tensor  # RGB [B, N, 3], not below 0


def shade(gaussians: Gaussians, cameras: Cameras, degree: int | None = None) -> Shaded:
    """Activate Gaussians and evaluate spherical harmonics toward cameras, with 3DGS's direction from camera center to mean.

    On the CPU, a kernel computes them in a seventh of the operators' time (benchmarks/kernels.py), differentiable once.

    Args:
        gaussians: N Gaussians as stored.
        cameras: B cameras.
        degree: Maximum SH degree; None: that of the Gaussians.

    Returns:
        What a rasterizer takes besides the means.

    Source:
        3D Gaussian Splatting, Kerbl et al. 2023, section 4 and its published code.
    """
    highest = gaussians.sh_degree
    degree = highest if degree is None else min(degree, highest)
    placed = cameras.on(gaussians.means).centers
    if _is_simple(gaussians, placed) and backends.installed("numba"):
        g = gaussians
        return Shaded(
            *_Fused.apply(  # pyright: ignore[reportGeneralTypeIssues]
                g.means, g.log_scales, g.quats, g.logit_opacities, g.sh, placed, degree
            )
        )
    return shade_reference(gaussians, cameras, degree)


def shade_reference(gaussians: Gaussians, cameras: Cameras, degree: int | None = None) -> Shaded:
    """`shade` of PyTorch's own operators, on any device."""
    a = gaussians.activated()
    highest = gaussians.sh_degree
    degree = highest if degree is None else min(degree, highest)
    if degree == 0:
        flat = (a.sh[:, 0] * harmonics.C0 + 0.5).clamp(min=0).expand(len(cameras), -1, -1)
        return Shaded(a.quats, a.scales, a.opacities, flat)
    centers = cameras.on(a.means).centers
    # gradients of the directions with respect to the means are tiny and noisy, but kept as in gsplat and 3DGS
    directions = torch.nn.functional.normalize(a.means[None] - centers[:, None], dim=-1)
    return Shaded(a.quats, a.scales, a.opacities, harmonics.colors(a.sh, directions, degree))


def _is_simple(gaussians: Gaussians, centers: Tensor) -> bool:
    """Whether the kernel takes them: on the CPU, of one type, and no gradient flows into the cameras."""
    kinds = {(t.device.type, t.dtype) for t in (*gaussians.tensors().values(), centers)}
    is_known = kinds in ({("cpu", torch.float32)}, {("cpu", torch.float64)})
    return is_known and not centers.requires_grad


class _Fused(torch.autograd.Function):
    """`shade` by the kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        log_scales: Tensor,
        quats: Tensor,
        logits: Tensor,
        sh: Tensor,
        centers: Tensor,
        degree: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from ..kernels.build import launch
        from ..kernels.shading import shade as kernel

        given = (means, log_scales, quats, logits, sh.flatten(1), centers)
        means, log_scales, quats, logits, sh, centers = (t.detach().contiguous() for t in given)
        unit, scales, opacities = (torch.empty_like(t) for t in (quats, log_scales, logits))
        colors = means.new_empty(len(centers), len(means), 3)
        ctx.count = harmonics.bases(degree)
        launch(
            kernel,
            len(means),
            SOME_GAUSSIANS,
            *(t.numpy() for t in (means, log_scales, quats, logits, sh, centers)),
            ctx.count,
            CONSTANTS.numpy(),
            *(t.numpy() for t in (unit, scales, opacities, colors)),
        )
        ctx.save_for_backward(means, quats, sh, centers, scales, opacities)
        return unit, scales, opacities, colors

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from ..kernels.build import launch
        from ..kernels.shading import shade_backward

        means, quats, sh, centers, scales, opacities = ctx.saved_tensors
        results = [torch.empty_like(t) for t in (means, scales, quats, opacities)]
        # bases that are not in use get none
        results.append(torch.zeros_like(sh) if 3 * ctx.count < sh.shape[1] else torch.empty_like(sh))
        launch(
            shade_backward,
            len(means),
            SOME_GAUSSIANS,
            *(t.numpy() for t in (means, quats, sh, centers)),
            ctx.count,
            CONSTANTS.numpy(),
            *(t.numpy() for t in (scales, opacities)),
            *(grad.contiguous().numpy() for grad in grads),
            *(t.numpy() for t in results),
        )
        results[-1] = results[-1].unflatten(1, (-1, 3))
        return *results, None, None
