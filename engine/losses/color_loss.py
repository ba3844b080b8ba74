"""The loss of rendered colors against captured ones: L1 and D-SSIM, as in 3DGS."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import backends
from .photometric import C1, C2, RADIUS, l1, ssim, window

# of the images that the kernel takes
CHANNELS = 3
# rows that a band of an image has at least; smaller ones would read as many of their neighbors' rows
FEWEST_ROWS = 64
# numbers of a row that a strip has at most: what is kept of its rows fits into the L2 cache of every CPU
STRIP = 640
CONSTANTS = np.array([C1, C2])


class ColorLoss(NamedTuple):
    """Scalars."""

    loss: Tensor  # (1 - w)·L1 + w·(1 - SSIM); differentiable in the rendered images
    l1: Tensor  # mean absolute difference
    squared: Tensor  # mean squared difference


def color_loss(rendered: Tensor, captured: Tensor, ssim_weight: float) -> ColorLoss:
    """Compare images.

    On the CPU, a kernel computes value and gradient, in a sixth of the operators' time or less (benchmarks/kernels.py).

    Args:
        rendered: Images [B, H, W, 3] in 0..1.
        captured: As `rendered`; without gradient.
        ssim_weight: w in 0..1, the weight of D-SSIM against L1.

    Returns:
        The loss, and the two differences without gradient.

    Source:
        3D Gaussian Splatting, Kerbl et al. 2023, eq. 7.
    """
    is_simple = ssim_weight > 0 and rendered.shape[-1] == CHANNELS
    if is_simple and rendered.device.type == "cpu" and backends.installed("numba"):
        return ColorLoss(*_Fused.apply(rendered, captured, ssim_weight))  # pyright: ignore[reportGeneralTypeIssues]
    return color_loss_reference(rendered, captured, ssim_weight)


def color_loss_reference(rendered: Tensor, captured: Tensor, ssim_weight: float) -> ColorLoss:
    """`color_loss` of PyTorch's own operators, on any device."""
    difference = l1(rendered, captured)
    squared = (rendered.detach() - captured).square().mean()
    loss = (1 - ssim_weight) * difference
    if ssim_weight:
        likeness = ssim(rendered.permute(0, 3, 1, 2), captured.permute(0, 3, 1, 2)).mean()
        loss = loss + ssim_weight * (1 - likeness)
    return ColorLoss(loss, difference.detach(), squared)


class _Fused(torch.autograd.Function):
    """`color_loss` by the kernel, which computes the gradient along with the value."""

    @staticmethod
    def forward(
        ctx: Any, rendered: Tensor, captured: Tensor, ssim_weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        from ..kernels.build import launch
        from ..kernels.color_loss import color_loss as kernel
        from ..kernels.threads import threads_now

        images, height, width, channels = rendered.shape
        count, length = rendered.numel(), width * channels
        strips = -(-length // STRIP)
        gradient = torch.empty(rendered.shape, dtype=rendered.dtype)
        sums = np.zeros((images, height, strips, 3))
        # what is summed where does not depend on the bands
        bands = max(1, min(threads_now() // (images * strips), height // FEWEST_ROWS))
        launch(
            kernel,
            images * bands * strips,
            1,
            bands,
            strips,
            height,
            length,
            rendered.detach().contiguous().view(-1).numpy(),
            captured.detach().to(rendered).contiguous().view(-1).numpy(),
            window()[: RADIUS + 1].numpy(),
            CONSTANTS,
            np.array([1 - ssim_weight, ssim_weight]) / count,
            gradient.view(-1).numpy(),
            sums,
        )
        difference, squares, likeness = (sums.sum(axis=(0, 1, 2)) / count).tolist()
        loss = (1 - ssim_weight) * difference + ssim_weight * (1 - likeness)
        loss, l1, squared = (rendered.new_tensor(number) for number in (loss, difference, squares))
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(l1, squared)
        return loss, l1, squared

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        # a step's views mostly have one size, so that their loss counts once: no copy of the images is needed
        return gradient if float(grads[0]) == 1 else gradient * grads[0], None, None
