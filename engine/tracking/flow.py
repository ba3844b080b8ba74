"""Dense optical flow between two images, coarse to fine.

Source: TV-L1 optical flow (Zach, Pock & Bischof 2007; numbers as in Sánchez Pérez, Meinhardt-Llopis & Facciolo, IPOL
2013), with the median filter between warps of Wedel et al. 2009. What differs: images are compared without their local
mean, so that a change of brightness is not taken for motion, and many pairs are solved at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# IPOL's numbers, for images in 0..255
DATA_WEIGHT, TIGHTNESS, STEP = 0.15, 0.3, 0.25
# pixels of the coarsest level's shorter side
COARSEST = 14
# Gaussian blur that removes pixel noise, and the one that gives the local mean, in pixels
SMOOTH, LOCAL = 0.8, 6.0
LOCAL_SHARE = 1.0
# pairs × pixels that are solved at once: what fits into a processor's cache
AT_ONCE = 160_000


@dataclass(frozen=True)
class FlowConfig:
    """Work per level of the pyramid."""

    warps: int = 3
    iterations: int = 20


def optical_flow(
    first: Tensor, second: Tensor, config: FlowConfig = FlowConfig(), start: Tensor | None = None
) -> Tensor:
    """Displacement of every pixel of `first` in `second`.

    Args:
        first: Images [B, H, W, 3] in 0..1.
        second: Images of the same size.
        config: Warps and iterations.
        start: Flow [B, H, W, 2] to refine at full size; None starts from nothing on the coarsest level.

    Returns:
        Flow [B, H, W, 2] in pixels, x before y.
    """
    height, width = first.shape[1:3]
    chunk = max(1, AT_ONCE // (height * width))
    parts = [
        _solved(
            first[i : i + chunk],
            second[i : i + chunk],
            config,
            None if start is None else start[i : i + chunk],
        )
        for i in range(0, len(first), chunk)
    ]
    return torch.cat(parts) if parts else first.new_zeros(0, height, width, 2)


def sampled(values: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values at pixels; outside the image, those of its border.

    Args:
        values: [B, C, H, W].
        pixels: [B, P, 2]; (0, 0) is the outer corner of the top-left pixel.

    Returns:
        [B, P, C].
    """
    height, width = values.shape[2:]
    if not pixels.shape[1]:
        return values.new_zeros(len(values), 0, values.shape[1])
    grid = pixels * pixels.new_tensor([2 / width, 2 / height]) - 1
    found = F.grid_sample(
        values, grid[:, :, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[..., 0].transpose(1, 2)


def _solved(first: Tensor, second: Tensor, config: FlowConfig, start: Tensor | None) -> Tensor:
    a, b = _prepared(first), _prepared(second)
    height, width = a.shape[1:]
    sizes = [(height, width)]
    while start is None and min(sizes[-1]) // 2 >= COARSEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    pyramid = [(a, b)]
    for size in sizes[1:]:
        pyramid.append((_resized(pyramid[-1][0], size), _resized(pyramid[-1][1], size)))
    if start is not None:
        u = start.permute(0, 3, 1, 2).contiguous()
    else:
        u = a.new_zeros(len(a), 2, *sizes[-1])
    for (a, b), (h, w) in zip(reversed(pyramid), reversed(sizes), strict=True):
        if u.shape[2:] != (h, w):
            scale = u.new_tensor([w / u.shape[3], h / u.shape[2]])[:, None, None]
            u = F.interpolate(u, (h, w), mode="bilinear", align_corners=False) * scale
        u = _level(a, b, u, config)
    return u.permute(0, 2, 3, 1).contiguous()


def _prepared(images: Tensor) -> Tensor:
    """Luminance in 0..255 without noise and without most of its local mean, [B, H, W]."""
    gray = 255 * (images.float() @ images.new_tensor([0.299, 0.587, 0.114]).float())
    smooth = _blurred(gray, SMOOTH)
    return smooth - LOCAL_SHARE * _blurred(gray, LOCAL)


def _blurred(planes: Tensor, sigma: float) -> Tensor:
    radius = min(math.ceil(2.5 * sigma), min(planes.shape[1:]) - 1)
    x = torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[:, None], (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[:, None], size, mode="bilinear", antialias=True, align_corners=False)[:, 0]


def _level(a: Tensor, b: Tensor, u: Tensor, config: FlowConfig) -> Tensor:
    """The flow `u` [B, 2, H, W] from `a` to `b` [B, H, W], improved at this size."""
    height, width = a.shape[1:]
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([xs, ys]).to(a) + 0.5
    # the second image and its central differences, warped together
    padded = F.pad(b[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    channels = torch.stack(
        [
            b,
            (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2,
            (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2,
        ],
        1,
    )
    threshold = DATA_WEIGHT * TIGHTNESS
    size = u.new_tensor([width, height])[:, None, None]
    # dual variables of both components: their differences along x and along y
    px, py = torch.zeros_like(u), torch.zeros_like(u)
    for _ in range(config.warps):
        place = pixels + u
        grid = (2 * place / size - 1).permute(0, 2, 3, 1)
        warped = F.grid_sample(channels, grid, padding_mode="border", align_corners=False)
        # what left the image says nothing
        inside = ((place > 0) & (place < size)).all(1)
        g = warped[:, 1:] * inside[:, None]
        squared = (g * g).sum(1, keepdim=True)
        constant = ((warped[:, 0] - a) * inside)[:, None] - (g * u).sum(1, keepdim=True)
        bound = threshold * squared
        inverse = 1 / squared.clamp(min=1e-4)
        for _ in range(config.iterations):
            rho = constant + (g * u).sum(1, keepdim=True)
            # soft threshold, equation 15 of Zach et al.
            move = -(rho.maximum(-bound).minimum(bound)) * inverse
            divergence = px.clone()
            divergence[..., 1:] -= px[..., :-1]
            divergence += py
            divergence[:, :, 1:] -= py[:, :, :-1]
            u = (u + g * move).add_(divergence, alpha=TIGHTNESS)
            dx, dy = torch.zeros_like(u), torch.zeros_like(u)
            torch.sub(u[..., 1:], u[..., :-1], out=dx[..., :-1])
            torch.sub(u[:, :, 1:], u[:, :, :-1], out=dy[:, :, :-1])
            weight = 1 / (1 + STEP / TIGHTNESS * (dx * dx + dy * dy).sqrt_())
            px = px.add_(dx, alpha=STEP / TIGHTNESS).mul_(weight)
            py = py.add_(dy, alpha=STEP / TIGHTNESS).mul_(weight)
        u = _median(u)
    return u


def _median(u: Tensor) -> Tensor:
    """3×3 median of each component."""
    padded = F.pad(u, (1, 1, 1, 1), mode="replicate")
    h, w = u.shape[2:]
    rows = torch.stack([padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)])
    return rows.median(dim=0).values
