"""Transfer the fine detail of the original images to the edited ones.

A latent model passes an image through its autoencoder, and a small one loses detail finer than a few pixels: faces,
seams, stripes. Many edits (light, weather, material, paint) change colors smoothly across the image, so the edited image
is close to a locally affine map of the original's colors. The map is fitted in every window and applied to the original.
New content of the edit, such as a new shape, is blurred, so this is optional.

Source: guided filter (He, Sun and Tang, PAMI 2013, eq. 11 to 15) with the original as color guide. Changed: the map is
fitted between equally blurred images (the edit, and the original after the autoencoder) and only then applied to the
sharp original; otherwise the blur would count as lost contrast.
"""

from __future__ import annotations

import torch
from torch import Tensor


def carry_detail(
    edited: Tensor,
    originals: Tensor,
    weights: Tensor | None = None,
    seen: Tensor | None = None,
    radius: float = 0.1,
    smoothing: float = 4e-3,
) -> Tensor:
    """Combine the originals' detail with the edited images' colors.

    Args:
        edited: [F, H, W, 3] in 0..1.
        originals: [F, H, W, 3] in 0..1.
        weights: [F, H, W] in 0..1, pixels to fit the map to (such as a subject's coverage); None: all.
        seen: [F, H, W, 3], the originals blurred like the edit; None: the originals.
        radius: Radius of a window, as a fraction of the image's long side.
        smoothing: Color variance of the original below which the map tends to a constant.

    Returns:
        Images [F, H, W, 3] in 0..1.

    Source:
        He, Sun and Tang, PAMI 2013, eq. 11 to 15.
    """
    guides = originals if seen is None else seen
    # one image at a time, because each needs 40 double planes
    carried = [
        _carry(
            edited[i : i + 1],
            originals[i : i + 1],
            None if weights is None else weights[i : i + 1],
            guides[i : i + 1],
            radius,
            smoothing,
        )
        for i in range(len(edited))
    ]
    return torch.cat(carried)


def _carry(
    edited: Tensor,
    originals: Tensor,
    weights: Tensor | None,
    guides: Tensor,
    radius: float,
    smoothing: float,
) -> Tensor:
    pixels = max(1, round(radius * max(edited.shape[1:3])))
    guide = guides.permute(0, 3, 1, 2).double()
    painted = edited.permute(0, 3, 1, 2).double()
    w = torch.ones_like(guide[:, :1]) if weights is None else weights[:, None].to(guide)
    # a small weight everywhere, so that windows without coverage still have a map, fitted to all their pixels
    w = w.clamp(0, 1) * (1 - 1e-4) + 1e-4
    mass = _window(w, pixels)

    def mean(values: Tensor) -> Tensor:
        return _window(values * w, pixels) / mass

    guide_mean, painted_mean = mean(guide), mean(painted)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    products = mean(torch.stack([guide[:, i] * guide[:, j] for i, j in pairs], dim=1))
    covariance = guide.new_zeros((*guide.shape[:1], *guide.shape[2:], 3, 3))
    for k, (i, j) in enumerate(pairs):
        value = products[:, k] - guide_mean[:, i] * guide_mean[:, j]
        covariance[..., i, j] = covariance[..., j, i] = value
    crossed = mean((guide[:, :, None] * painted[:, None]).flatten(1, 2)).unflatten(1, (3, 3))
    crossed = (crossed - guide_mean[:, :, None] * painted_mean[:, None]).permute(0, 3, 4, 1, 2)
    # [F, H, W, 3, 3]
    slope = torch.linalg.solve(covariance + smoothing * torch.eye(3).to(covariance), crossed)
    offset = painted_mean.permute(0, 2, 3, 1) - torch.einsum("fhwij,fihw->fhwj", slope, guide_mean)
    # every pixel lies in many windows, whose maps are averaged
    maps = torch.cat([slope.flatten(3), offset], dim=3).permute(0, 3, 1, 2)
    maps = _window(maps * mass, pixels) / _window(mass, pixels)
    slope, offset = maps[:, :9].unflatten(1, (3, 3)), maps[:, 9:]
    carried = torch.einsum("fijhw,fhwi->fhwj", slope, originals.double()) + offset.permute(0, 2, 3, 1)
    return carried.clamp(0, 1).to(edited.dtype).contiguous()


def _window(planes: Tensor, radius: int) -> Tensor:
    """Sums over windows of 2·radius + 1 pixels, cut at the image's edge; the time is independent of the radius."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        sums = torch.cumsum(planes, axis)
        first, last = sums.narrow(axis, 0, 1), sums.narrow(axis, size - 1, 1)
        repeats = [1] * planes.ndim
        repeats[axis] = radius
        # zeros before the image and the total after it, so that every window is a difference of two sums
        before = torch.zeros_like(first).repeat(repeats)
        sums = torch.cat([before, torch.zeros_like(first), sums, last.repeat(repeats)], axis)
        planes = sums.narrow(axis, 2 * radius + 1, size) - sums.narrow(axis, 0, size)
    return planes
