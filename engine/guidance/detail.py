"""Fine detail of the original under the colours of the edit.

A latent model repaints a picture through its autoencoder, and a small one loses what is finer than a few pixels: faces,
seams, stripes. Many edits (light, weather, material, paint) change colours smoothly from place to place, so the edited
picture is near a locally affine map of the original's colours. That map is fitted in every window and applied to the
original: the guided filter (He, Sun and Tang, PAMI 2013, eq. 11 to 15) with the original as its colour guide. What
the edit added that the original does not hold, such as a new shape, is blurred; the choice is the artist's.

Changed: the map is fitted between pictures that are equally blurred, the edit and the original as the autoencoder sees
it, and only then applied to the sharp original; else the blur would count as lost contrast.
"""

from __future__ import annotations

import torch
from torch import Tensor


def carry_detail(
    edited: Tensor,  # [F, H, W, 3] in 0..1
    originals: Tensor,  # [F, H, W, 3] in 0..1
    weights: Tensor
    | None = None,  # [F, H, W] in 0..1: what belongs together (a subject's coverage); None = all
    seen: Tensor | None = None,  # [F, H, W, 3]: the originals as blurred as the edit is; None = the originals
    radius: float = 0.1,  # of a window, as a share of the picture's long side
    smoothing: float = 4e-3,  # variance below which the original's colours are not told apart
) -> Tensor:
    """Pictures [F, H, W, 3] in 0..1 with the originals' detail and the edited pictures' colours."""
    guides = originals if seen is None else seen
    carried = [
        _carry(
            edited[i : i + 1],
            originals[i : i + 1],
            None if weights is None else weights[i : i + 1],
            guides[i : i + 1],
            radius,
            smoothing,
        )
        for i in range(len(edited))  # one at a time: 40 double planes of each are held
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
    # a trace of weight everywhere, so that windows without any coverage still have a map: that of all their pixels
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
    slope = torch.linalg.solve(
        covariance + smoothing * torch.eye(3).to(covariance), crossed
    )  # [F, H, W, 3, 3]
    offset = painted_mean.permute(0, 2, 3, 1) - torch.einsum("fhwij,fihw->fhwj", slope, guide_mean)
    # every pixel lies in many windows: it takes the mean of their maps
    maps = torch.cat([slope.flatten(3), offset], dim=3).permute(0, 3, 1, 2)
    maps = _window(maps * mass, pixels) / _window(mass, pixels)
    slope, offset = maps[:, :9].unflatten(1, (3, 3)), maps[:, 9:]
    carried = torch.einsum("fijhw,fhwi->fhwj", slope, originals.double()) + offset.permute(0, 2, 3, 1)
    return carried.clamp(0, 1).to(edited.dtype).contiguous()


def _window(planes: Tensor, radius: int) -> Tensor:
    """Sums over windows of 2·radius + 1 pixels that end at the picture's edge; time does not grow with the radius."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        sums = torch.cumsum(planes, axis)
        first, last = sums.narrow(axis, 0, 1), sums.narrow(axis, size - 1, 1)
        repeats = [1] * planes.ndim
        repeats[axis] = radius
        # zeros before the picture and the whole sum behind it: every window is then a difference of two
        before = torch.zeros_like(first).repeat(repeats)
        sums = torch.cat([before, torch.zeros_like(first), sums, last.repeat(repeats)], axis)
        planes = sums.narrow(axis, 2 * radius + 1, size) - sums.narrow(axis, 0, size)
    return planes
