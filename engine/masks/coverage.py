"""Which images show which Gaussians, and the few images that together show the most of a scene.

A Gaussian's contribution to an image is Σ T·α over its pixels (see lift.py). The choice is the greedy one for maximum coverage,
which is at most 1 − 1/e from the best (Nemhauser et al. 1978).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..render import Rasterizer
from ..scene import Cameras, Scene4D
from .lift import by_time, composited

# longest side of the renders that are measured, in pixels
SIDE = 128


def contributions(
    scene: Scene4D, cameras: Cameras, seconds: Sequence[float], rasterizer: Rasterizer
) -> Tensor:
    """How much each image shows of each Gaussian.

    Args:
        scene: The scene, N Gaussians.
        cameras: F cameras.
        seconds: F times, in seconds.
        rasterizer: Any rasterizer.

    Returns:
        [F, N] on the CPU, in pixels of renders whose longest side is SIDE.
    """
    small = cameras.scaled(min(1.0, SIDE / max(side for size in cameras.sizes for side in size)))
    found = torch.zeros(len(cameras), len(scene.canonical))
    with torch.enable_grad():
        for now, index in by_time(scene, seconds):
            for i in index:
                features = torch.ones(found.shape[1], 1, device=scene.device, requires_grad=True)
                composited(now, features, small[[i]], rasterizer)[0].sum().backward()
                assert features.grad is not None
                found[i] = features.grad[:, 0].cpu()
    return found


def enough(shown: Tensor) -> float:
    """The contribution from which a Gaussian counts as fully shown: the mean of their largest ones.

    Args:
        shown: Contributions [F, N].
    """
    if not len(shown):
        return 0.0
    largest = shown.amax(dim=0)
    return float(largest[largest > 0].mean()) if bool((largest > 0).any()) else 0.0


def covering(
    shown: Tensor, count: int, seen: Tensor | None = None, least: float = 0.0
) -> tuple[list[int], float]:
    """The images that together show the most Gaussians.

    Args:
        shown: Contributions [F, N] of all images.
        count: Number of images to choose.
        seen: Contributions [M, N] of images that are there already; None: none.
        least: Fraction of what all images show that an image must add to be chosen.

    Returns:
        Indices of at most min(count, F) images in order, and the fraction of what all images show that they and the seen
        ones show.
    """
    seen = shown[:0] if seen is None else seen
    both = torch.cat([seen, shown])
    capped = both.clamp(max=enough(both))
    every = float(capped.amax(dim=0).sum()) if len(both) else 0.0
    best = torch.cat([torch.zeros(1, shown.shape[1]), capped[: len(seen)]]).amax(dim=0)
    capped = capped[len(seen) :]
    left = list(range(len(shown)))
    while left and len(shown) - len(left) < count:
        gains = (capped[left] - best).clamp(min=0).sum(dim=1)
        if float(gains.max()) < least * every:
            break
        best = torch.maximum(best, capped[left.pop(int(gains.argmax()))])
    share = float(best.sum()) / every if every else 1.0
    return [i for i in range(len(shown)) if i not in left], share
