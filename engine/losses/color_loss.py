"""The loss of rendered colors against captured ones: L1 and D-SSIM, as in 3DGS."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import backends
from .photometric import C1, C2, RADIUS, l1, ssim, window

# of the images that the kernel takes
CHANNELS = 3
# rows that a band of an image has at least; smaller ones would read as many of their neighbors' rows
FEWEST_ROWS = 64


class ColorLoss(NamedTuple):
    """Scalars."""

    loss: Tensor  # (1 - w)·L1 + w·(1 - SSIM); differentiable in the rendered images
    l1: Tensor  # mean absolute difference
    squared: Tensor  # mean squared difference


def color_loss(rendered: Tensor, captured: Tensor, ssim_weight: float) -> ColorLoss:
    """Compare images.

    On the CPU, a kernel computes value and gradient in one pass, in at most 40 % of the operators' time (benchmarks/kernels.py).

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
        count = rendered.numel()
        gradient = torch.empty(rendered.shape, dtype=rendered.dtype)
        sums = torch.zeros(images, height, 3, dtype=torch.float64)
        # what is summed where does not depend on the bands
        bands = max(1, min(threads_now() // images, height // FEWEST_ROWS))
        rows = (images, height, width * channels)
        launch(
            kernel,
            images * bands,
            1,
            bands,
            rendered.detach().contiguous().view(rows).numpy(),
            captured.detach().to(rendered).contiguous().view(rows).numpy(),
            window()[: RADIUS + 1].numpy(),
            torch.tensor([C1, C2], dtype=torch.float64).numpy(),
            torch.tensor([1 - ssim_weight, ssim_weight], dtype=torch.float64).div_(count).numpy(),
            gradient.view(rows).numpy(),
            sums.numpy(),
        )
        difference, squared, likeness = (sums.sum(dim=(0, 1)) / count).to(rendered.dtype).unbind()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(difference, squared)
        return (1 - ssim_weight) * difference + ssim_weight * (1 - likeness), difference, squared

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None
