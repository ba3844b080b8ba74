"""Photometric losses: L1, L2 and structural similarity. Images [B, C, H, W] in [0, 1]."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# for a data range of 1 (Wang et al. 2004)
C1, C2 = 0.01**2, 0.03**2
RADIUS, SIGMA = 5, 1.5
# pixels blurred by one matrix product; the fastest size in measurements
BLOCK = 16


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference (any equal shapes)."""
    return (a - b).abs().mean()


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference (any equal shapes)."""
    return (a - b).square().mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (SSIM) per image: the mean over channels and pixels, borders included.

    Computed as in 3DGS: 11×11 Gaussian window of sigma 1.5, per channel, zeros outside the image. Differentiable in both
    images.

    Args:
        a: Images [B, C, H, W] in 0..1.
        b: Images [B, C, H, W] in 0..1.

    Returns:
        [B]; 1 for equal images.

    Source:
        Wang et al. 2004, eq. 13.

    Example:
        loss = 0.8 * l1(rendered, captured) + 0.2 * (1 - ssim(rendered, captured).mean())
    """
    return ssim_map(a, b).flatten(1).mean(dim=1)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity [B, C, H, W] at every pixel."""
    return _SsimMap.apply(a.contiguous(), b.contiguous())  # pyright: ignore[reportReturnType]


def window() -> Tensor:
    """The window's weights along one axis [11] in float64, with sum 1."""
    return _taps(torch.float64, torch.device("cpu"))


@lru_cache(maxsize=8)
def _taps(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The window's weights along one axis [11], with sum 1."""
    taps = torch.exp(-torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64).square() / (2 * SIGMA**2))
    return (taps / taps.sum()).to(device, dtype)


@lru_cache(maxsize=8)
def _band(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrix [BLOCK, BLOCK + 10] that blurs BLOCK pixels with 5 more on either side."""
    band = torch.zeros(BLOCK, BLOCK + 2 * RADIUS, dtype=dtype, device=device)
    for row in range(BLOCK):
        band[row, row : row + 2 * RADIUS + 1] = _taps(dtype, device)
    return band


def blur(x: Tensor) -> Tensor:
    """Blur [..., H, W] with the 11×11 Gaussian window of SSIM, zeros outside; the operator is its own adjoint.

    On a CPU, small matrix products over blocks of pixels are several times as fast as an 11-tap convolution.
    """
    h, w = x.shape[-2:]
    flat = x.reshape(-1, h, w)
    if x.is_cuda:
        return _blur_taps(flat).reshape(x.shape)
    # planes at a time: as many as stay in the cache
    together = max(1, (1 << 20) // (h * w))
    return torch.cat([_blur_blocks(part) for part in flat.split(together)]).reshape(x.shape)


def _blur_taps(x: Tensor) -> Tensor:
    """`blur` of [M, H, W] by convolution, never in TF32: its 10 bits give SSIM above 1 and wrong gradients."""
    taps, now = _taps(x.dtype, x.device), torch.backends.cudnn
    with now.flags(now.enabled, now.benchmark, deterministic=now.deterministic, allow_tf32=False):
        x = F.conv2d(x[:, None], taps.view(1, 1, 1, -1), padding=(0, RADIUS))
        return F.conv2d(x, taps.view(1, 1, -1, 1), padding=(RADIUS, 0))[:, 0]


def _blur_blocks(x: Tensor) -> Tensor:
    """`blur` of [M, H, W]."""
    m, h, w = x.shape
    band = _band(x.dtype, x.device)
    across, down = -(-w // BLOCK) * BLOCK, -(-h // BLOCK) * BLOCK
    windows = F.pad(x, (RADIUS, across - w + RADIUS)).unfold(-1, BLOCK + 2 * RADIUS, BLOCK)
    rows = (windows.reshape(-1, BLOCK + 2 * RADIUS) @ band.T).view(m, h, across)
    rows = F.pad(rows, (0, 0, RADIUS, down - h + RADIUS))
    # [M, blocks, BLOCK + 10, W]
    windows = rows.unfold(1, BLOCK + 2 * RADIUS, BLOCK).transpose(2, 3)
    return torch.matmul(band, windows).view(m, down, across)[:, :h, :w]


class _SsimMap(torch.autograd.Function):
    """SSIM with an explicit derivative: five blurs forward and three backward, without autograd's many buffers."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        mean_a, mean_b, aa, bb, ab = blur(torch.stack([a, b, a * a, b * b, a * b])).unbind(0)
        p = 2 * mean_a * mean_b + C1
        q = 2 * (ab - mean_a * mean_b) + C2
        r = mean_a.square() + mean_b.square() + C1
        s = aa - mean_a.square() + bb - mean_b.square() + C2
        result = p * q / (r * s)
        ctx.save_for_backward(a, b, mean_a, mean_b, p, q, r, s, result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b, mean_a, mean_b, p, q, r, s, value = ctx.saved_tensors
        g = grads[0]
        rs = r * s
        # gradients of the blurred product and of either blurred square
        d_ab = g * 2 * p / rs
        d_square = -g * value / s
        common = g * 2 * (q - p) / rs
        twist = g * 2 * value * (1 / s - 1 / r)
        result: list[Tensor | None] = [None, None]
        for i, (x, y, mean_x, mean_y) in enumerate(((a, b, mean_a, mean_b), (b, a, mean_b, mean_a))):
            if ctx.needs_input_grad[i]:
                d_mean = common * mean_y + twist * mean_x
                blurred = blur(torch.stack([d_mean, d_square, d_ab]))
                result[i] = blurred[0] + 2 * x * blurred[1] + y * blurred[2]
        return result[0], result[1]
