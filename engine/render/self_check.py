"""Compares a rasterizer's images and gradients with the reference on this device, before it is trusted with a scene.

Each GPU is checked once per process, since kernels are compiled for it. Memory that runs out meanwhile says nothing about the
kernels: the GPU is then checked again in the next run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import backends
from .rasterizer import Rasterizer

SIZE, COUNT = 40, 60
LARGEST = 1e-3
# by name of the rasterizer and index of the GPU: why it cannot be used, None if it can
_found: dict[tuple[str, int], str | None] = {}
# those of `_found` that another run may find otherwise
_full: set[tuple[str, int]] = set()


def wrong_here(
    name: str,
    index: int,
    create: Callable[[], Rasterizer],
    problem: Callable[[], str | None] = lambda: None,
) -> str | None:
    """Why a rasterizer cannot be used on a GPU, or its images there cannot be trusted; None if they equal the reference's.

    Catches everything that an import, a compiler or a driver may raise.

    Args:
        name: The rasterizer, as messages call it.
        index: The GPU.
        create: Creates the rasterizer, which may take long.
        problem: Asked first: why the GPU cannot be used at all, or None.
    """
    if (name, index) not in _found:
        try:
            reason = problem()
            off = 0.0 if reason else difference(f"cuda:{index}", create())
            if not is_close(off):
                reason = f"{name}'s images on this GPU differ from the reference by {off:.2g}"
            _found[name, index] = reason
        except (Exception, SystemExit) as error:
            _remember(name, index, backends.short(error), backends.is_out_of_memory(error))
    return _found[name, index]


def failed_elsewhere(name: str, index: int, reason: str) -> str:
    """Remember why another process could not use a rasterizer on a GPU. Returns the reason as `wrong_here` gives it."""
    return _remember(name, index, reason, backends.names_full_memory(reason))


def _remember(name: str, index: int, reason: str, is_full: bool) -> str:
    if is_full:
        _full.add((name, index))
        found = f"memory ran out when {name} was checked on this GPU ({reason}); the next run checks it again"
    else:
        found = f"{name} failed on this GPU ({reason})"
    _found[name, index] = found
    return found


def check_again() -> None:
    """A new run begins: GPUs whose check ran out of memory are checked when they are next asked for."""
    for key in _full:
        _found.pop(key, None)
    _full.clear()


def forget(name: str) -> None:
    """Check a rasterizer again on every GPU, because its kernels have changed."""
    for key in [key for key in _found if key[0] == name]:
        del _found[key]
        _full.discard(key)


def is_close(off: float) -> bool:
    """Whether a difference is one of rounding; NaN is not."""
    return off < LARGEST


def difference(device: str, ours: Rasterizer, channels: int = 3) -> float:
    """Largest difference of images and gradients from the reference's, relative to their largest value.

    Args:
        device: Torch device.
        ours: The rasterizer to check.
        channels: Feature channels to render.
    """
    # not above: it registers itself, and the order of registration is that of the options
    from .torch_reference import TorchRasterizer

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
