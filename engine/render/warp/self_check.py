"""Compares a rasterizer's images and gradients with the reference on this device, before it is trusted with a scene."""

from __future__ import annotations

import torch

from ..rasterizer import Rasterizer
from ..torch_reference import TorchRasterizer

SIZE, COUNT = 40, 60
LARGEST = 1e-3


def is_close(off: float) -> bool:
    """Whether a difference is one of rounding; NaN is not."""
    return off < LARGEST


def difference(device: str, ours: Rasterizer | None = None, channels: int = 3) -> float:
    """Largest difference of images and gradients from the reference's, relative to their largest value.

    Args:
        device: Torch device.
        ours: The rasterizer to check; None: Warp's.
        channels: Feature channels to render.
    """
    if ours is None:
        # not above: gsplat is checked where Warp may not be installed
        from .rasterizer import WarpRasterizer

        ours = WarpRasterizer()
    generator = torch.Generator().manual_seed(0)
    leaves = [
        0.5 * torch.randn(COUNT, 3, generator=generator),
        torch.randn(COUNT, 4, generator=generator),
        0.15 * torch.rand(COUNT, 3, generator=generator) + 0.05,
        # clear of the limits at which a Gaussian is clamped or left out
        0.6 * torch.rand(COUNT, generator=generator) + 0.1,
        torch.rand(COUNT, channels, generator=generator),
    ]
    pose = torch.eye(4)
    pose[2, 3] = 4.0
    K = torch.tensor([[[SIZE, 0, SIZE / 2], [0, SIZE, SIZE / 2], [0, 0, 1.0]]])
    weights = torch.randn(1, SIZE, SIZE, channels, generator=generator).to(device)
    found: list[list[torch.Tensor]] = []
    with torch.inference_mode(False), torch.enable_grad():
        for rasterizer in (ours, TorchRasterizer()):
            copies = [t.to(device, copy=True).requires_grad_() for t in leaves]
            means, quats, scales, opacities, colors = copies
            cameras = pose[None].to(device), K.to(device)
            image, alpha, _ = rasterizer.render(means, quats, scales, opacities, colors, *cameras, SIZE, SIZE)
            ((image * weights).sum() + (alpha * weights[..., 0]).sum()).backward()
            found.append([image.detach(), alpha.detach(), *(t.grad for t in copies if t.grad is not None)])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True))
