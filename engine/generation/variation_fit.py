"""Fit generated motion to the video: gradient descent on the latents, through the decoder and the rasterizer.

Not in GVFDiffusion. The transformer sees a video in coarse tokens, so that what it generates is a little off; from there, the
nearest motion that looks like the video is a few steps away. From no motion at all, descent ends in a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from ..models.trellis import RawGaussians
from ..models.variation_field import canonical_changes
from ..render import choose, render_gaussians
from ..scene import Cameras

# learning rate of Adam and weight of the distance from the generated latents, in standard deviations of the latents
RATE, KEEP = 0.05, 3e-3
# weight of the second difference over time of what the fit adds: without it, frames tremble
STEADY = 0.2
# width of the compared images in pixels, at most
PIXELS = 128
# least frames of a step; longer videos take half of theirs
FRAMES = 8


def fitted(
    latents: Tensor,
    deltas: Callable[[Tensor, Tensor], Tensor],
    raw: RawGaussians,
    images: Tensor,
    camera: Cameras,
    steps: int,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Lower the mean absolute difference between the drawn splat and the video.

    Args:
        latents: Standardized latents [1, T, L, C], as generated.
        deltas: Decodes some frames [F] of latents: to [F, N, 14], in the model's frame.
        raw: The N canonical Gaussians.
        images: The video on white [T, S, S, 3] in 0..1.
        camera: The video's camera, of any size.
        steps: Optimizer steps.
        seed: Which frames a step looks at.

    Yields:
        The latents [1, T, L, C] after each step.

    Example:
        for latents in fitted(sample.latents, work.deltas, space.raw, frames, camera, 40):
            pass
    """
    device = latents.device
    camera = camera.scaled(min(PIXELS, images.shape[1]) / camera.sizes[0][0])
    wanted = _sized(images, camera.sizes[0]).to(device)
    background, rasterizer = torch.ones(3, device=device), choose("auto", device)
    start = latents.detach().float()
    offsets = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([offsets], lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    count = min(len(images), max(FRAMES, len(images) // 2))
    values = {field.name: getattr(raw, field.name) for field in fields(raw)}
    raw = replace(raw, **{name: t.to(device) for name, t in values.items() if isinstance(t, Tensor)})
    body = raw.to_gaussians()
    for _ in range(steps):
        some = torch.randperm(len(images), generator=generator)[:count]
        with torch.enable_grad():
            changes = canonical_changes(raw, deltas(start + offsets, some))
            drawn = []
            for i in range(count):
                moved = body.with_(**{name: t + changes[name][i] for name, t in body.tensors().items()})
                drawn.append(render_gaussians(moved, camera, rasterizer, background).rgb)
            loss = (torch.cat(drawn) - wanted[some]).abs().mean() + KEEP * offsets.square().mean()
            if len(images) > 2:
                loss = loss + STEADY * offsets.diff(n=2, dim=1).square().mean()
            (gradient,) = torch.autograd.grad(loss, offsets)
        offsets.grad = gradient
        optimizer.step()
        yield (start + offsets).detach().to(latents.dtype)


def _sized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [T, S, S, 3] at (width, height)."""
    planes = images.permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(
        planes, (size[1], size[0]), mode="bilinear", antialias=True, align_corners=False
    )
    return small.permute(0, 2, 3, 1)
