"""Lift image masks to weights of Gaussians, and render a selection of Gaussians as masks.

A Gaussian's weight is the fraction of its contribution to the images that lies inside the masks: Σ mask·T·α / Σ T·α over
all pixels of all views. T·α is the factor of a Gaussian's feature in compositing, so both sums are gradients of a
rendered feature: one backward pass, with any rasterizer.

Source: the mask unprojection of GaussianEditor (Chen et al., CVPR 2024), normalized.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..render import Rasterizer
from ..scene import Cameras, Gaussians, Scene4D, Selection

# contribution in pixels below which a Gaussian counts as not seen
SEEN = 1e-3


def lift(
    scene: Scene4D,
    cameras: Cameras,
    masks: Tensor,
    seconds: Sequence[float],
    rasterizer: Rasterizer,
    fills_unseen: bool = True,
) -> Selection:
    """Lift masks to soft weights of Gaussians.

    Args:
        scene: The scene, N Gaussians.
        cameras: F cameras.
        masks: [F, h, w] in 0..1, of the cameras' size or another size with the same aspect ratio.
        seconds: F times, in seconds.
        rasterizer: Any rasterizer.
        fills_unseen: Gaussians outside all views get the weight of the nearest visible one; False: 0.

    Returns:
        Weights [N] in 0..1, on the CPU.

    Raises:
        InputError: Masks and views do not match, or a mask contains NaN.

    Source:
        GaussianEditor (Chen et al., CVPR 2024), mask unprojection.

    Example:
        selection = lift(scene, scene.rig[[0, 2]], masks, [0.0, 0.0], choose("auto"))
    """
    sized = _fitting(cameras, masks, seconds)
    count, device = len(scene.canonical), scene.device
    inside, whole = torch.zeros(count, device=device), torch.zeros(count, device=device)
    for now, index in by_time(scene, seconds):
        features = torch.ones(count, 2, device=device, requires_grad=True)
        drawn, _ = composited(now, features, sized[index], rasterizer)
        mask = masks[index].to(drawn)
        drawn.backward(torch.stack([mask, torch.ones_like(mask)], dim=-1))
        assert features.grad is not None
        inside += features.grad[:, 0]
        whole += features.grad[:, 1]
    seen = whole > SEEN
    weights = torch.where(seen, inside / whole.clamp(min=SEEN), 0).clamp(0, 1).cpu()
    if fills_unseen and bool(seen.any()) and not bool(seen.all()):
        weights = _from_the_nearest(weights, seen.cpu(), scene.canonical.means.detach().cpu())
    return Selection(weights.float())


def render_selection(
    scene: Scene4D, selection: Selection, cameras: Cameras, seconds: Sequence[float], rasterizer: Rasterizer
) -> Tensor:
    """Render the selected Gaussians as masks; hidden Gaussians do not count.

    Args:
        scene: The scene, N Gaussians.
        selection: Weights [N].
        cameras: F cameras of one size.
        seconds: F times, in seconds.
        rasterizer: Any rasterizer.

    Returns:
        Masks [F, H, W] in 0..1; a pixel that the scene covers partly has a partial mask.

    Raises:
        InputError: The selection belongs to another scene.
    """
    selection.check(len(scene.canonical))
    features = selection.weights.to(scene.device)[:, None]
    width, height = cameras.sizes[0]
    masks = torch.zeros(len(cameras), height, width, device=scene.device)
    with torch.no_grad():
        for now, index in by_time(scene, seconds):
            masks[index] = composited(now, features, cameras[index], rasterizer)[0][..., 0].clamp(0, 1)
    return masks


def hardened(selection: Selection, threshold: float, softness: float = 0.0) -> Selection:
    """Push weights to 0 and 1: a step at `threshold`, or a ramp of width `softness` centered on it."""
    weights = selection.weights
    if softness > 0:
        return Selection(((weights - threshold) / softness + 0.5).clamp(0, 1))
    return Selection((weights >= threshold).float())


def composited(
    gaussians: Gaussians, features: Tensor, cameras: Cameras, rasterizer: Rasterizer
) -> tuple[Tensor, Tensor]:
    """Features [N, C] composited by cameras of one size [F, H, W, C], and alpha [F, H, W]; differentiable in the features."""
    a = gaussians.map(torch.Tensor.detach).activated()
    w2c, K, _ = cameras.on(a.means)
    width, height = cameras.sizes[0]
    return rasterizer.render(a.means, a.quats, a.scales, a.opacities, features, w2c, K, width, height)[:2]


def by_time(scene: Scene4D, seconds: Sequence[float]) -> list[tuple[Gaussians, list[int]]]:
    """(Gaussians, image indices) for each distinct time."""
    groups: dict[float, list[int]] = {}
    for i, s in enumerate(seconds):
        groups.setdefault(float(s), []).append(i)
    with torch.no_grad():
        return [(scene.at(s), index) for s, index in groups.items()]


def _fitting(cameras: Cameras, masks: Tensor, seconds: Sequence[float]) -> Cameras:
    """The cameras resized to the masks. Raises InputError if masks and views do not match."""
    if masks.ndim != 3 or not len(cameras) == len(masks) == len(seconds) > 0:
        raise InputError(
            "MSK-001",
            f"There are {len(cameras)} views and masks of shape {tuple(masks.shape)}; give one mask per view, in the same "
            "order, or a single one.",
        )
    height, width = int(masks.shape[1]), int(masks.shape[2])
    for (w, h), name in zip(cameras.sizes, cameras.names, strict=True):
        if abs(width / height / (w / h) - 1) > 0.05:
            raise InputError(
                "MSK-002",
                f"The masks are {width}×{height}, but view {name} is {w}×{h}, another aspect ratio; make the masks from "
                "the images of these views.",
            )
    if not bool(torch.isfinite(masks).all()):
        raise InputError(
            "MSK-003", "The masks contain values that are not finite (NaN or infinite); make them again."
        )
    return cameras.resized(((width, height),) * len(cameras))


def _from_the_nearest(weights: Tensor, seen: Tensor, means: Tensor) -> Tensor:
    """Weights of unseen Gaussians from the nearest visible one, in canonical space."""
    from scipy.spatial import KDTree

    known = seen.nonzero().flatten()
    tree = KDTree(means[known].double().numpy())
    _, nearest = tree.query(means[~seen].double().numpy())
    result = weights.clone()
    result[~seen] = weights[known[torch.from_numpy(nearest).long()]]
    return result
