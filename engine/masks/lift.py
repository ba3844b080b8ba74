"""Masks in pictures ↔ weights of Gaussians: which Gaussians does a mask mean, and where does a selection show.

A Gaussian's weight is the share of what it contributes to the pictures that lies inside the masks: Σ mask·T·α over
Σ T·α, over all pixels of all views (the mask unprojection of GaussianEditor, Chen et al., CVPR 2024, normalised). T·α is
what compositing multiplies a Gaussian's feature with, so both sums are gradients of a rendered feature: one backward
pass, with whatever rasterizer there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..render import Rasterizer
from ..scene import Cameras, Gaussians, Scene4D, Selection

SEEN = 1e-3  # pixels: a Gaussian that contributed less than this was not seen


def lift(
    scene: Scene4D,
    cameras: Cameras,  # F cameras
    masks: Tensor,  # [F, h, w] in 0..1; of the cameras' size or the same shape in another size
    seconds: Sequence[float],  # F times
    rasterizer: Rasterizer,
    fills_unseen: bool = True,
) -> Selection:
    """Soft weights [N] in 0..1 on the CPU.

    Gaussians that no view shows take the weight of the nearest one that is seen (`fills_unseen`), else 0. Raises
    InputError where masks and views do not belong together.
    """
    sized = _fitting(cameras, masks, seconds)
    count, device = len(scene.canonical), scene.device
    inside, whole = torch.zeros(count, device=device), torch.zeros(count, device=device)
    for now, index in _by_moment(scene, seconds):
        features = torch.ones(count, 2, device=device, requires_grad=True)
        drawn, _ = _draw(now, features, sized[index], rasterizer)
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
    """Where the selected Gaussians show: masks [F, H, W] in 0..1 of F cameras of one size at F times.

    A mask counts what is in front only; where the scene covers a pixel in part, the mask does too. Raises InputError
    where the selection belongs to another scene.
    """
    selection.check(len(scene.canonical))
    features = selection.weights.to(scene.device)[:, None]
    width, height = cameras.sizes[0]
    masks = torch.zeros(len(cameras), height, width, device=scene.device)
    with torch.no_grad():
        for now, index in _by_moment(scene, seconds):
            masks[index] = _draw(now, features, cameras[index], rasterizer)[0][..., 0].clamp(0, 1)
    return masks


def hardened(selection: Selection, threshold: float, softness: float = 0.0) -> Selection:
    """Weights pushed to 0 and 1: a step at `threshold`, or a ramp of width `softness` round it."""
    weights = selection.weights
    if softness > 0:
        return Selection(((weights - threshold) / softness + 0.5).clamp(0, 1))
    return Selection((weights >= threshold).float())


def _draw(
    gaussians: Gaussians, features: Tensor, cameras: Cameras, rasterizer: Rasterizer
) -> tuple[Tensor, Tensor]:
    a = gaussians.map(torch.Tensor.detach).activated()
    w2c, K = cameras.world_to_camera.to(a.means), cameras.K.to(a.means)
    width, height = cameras.sizes[0]
    return rasterizer.render(a.means, a.quats, a.scales, a.opacities, features, w2c, K, width, height)[:2]


def _by_moment(scene: Scene4D, seconds: Sequence[float]) -> list[tuple[Gaussians, list[int]]]:
    """(the Gaussians then, the pictures of then) for each distinct time."""
    groups: dict[float, list[int]] = {}
    for i, s in enumerate(seconds):
        groups.setdefault(float(s), []).append(i)
    with torch.no_grad():
        return [(scene.at(s), index) for s, index in groups.items()]


def _fitting(cameras: Cameras, masks: Tensor, seconds: Sequence[float]) -> Cameras:
    """The cameras with pictures of the masks' size."""
    if masks.ndim != 3 or not len(cameras) == len(masks) == len(seconds) > 0:
        raise InputError(
            "MSK-001",
            f"{len(cameras)} views and masks of shape {tuple(masks.shape)}: give one mask for each view, in their order.",
        )
    height, width = int(masks.shape[1]), int(masks.shape[2])
    for (w, h), name in zip(cameras.sizes, cameras.names, strict=True):
        if abs(width / height / (w / h) - 1) > 0.05:
            raise InputError(
                "MSK-002",
                f"The masks are {width}×{height}, view {name} is {w}×{h}: their shapes differ, so they cannot show the "
                "same picture; make masks from the pictures of these views.",
            )
    if not bool(torch.isfinite(masks).all()):
        raise InputError(
            "MSK-003", "The masks hold values that are no numbers (NaN or infinite); make them again."
        )
    return cameras.resized(((width, height),) * len(cameras))


def _from_the_nearest(weights: Tensor, seen: Tensor, means: Tensor) -> Tensor:
    """Weights of unseen Gaussians from the nearest seen one, in the canonical scene."""
    from scipy.spatial import KDTree

    known = seen.nonzero().flatten()
    tree = KDTree(means[known].double().numpy())
    _, nearest = tree.query(means[~seen].double().numpy())
    result = weights.clone()
    result[~seen] = weights[known[torch.from_numpy(nearest).long()]]
    return result
