"""Depth, flow and image differences as colors."""

from __future__ import annotations

import torch
from torch import Tensor


def depth_picture(depth: Tensor, alpha: Tensor) -> Tensor:
    """Depth [..., H, W] as gray [..., H, W, 3]: near is bright, far is dark, empty is black.

    The range is the 1st to 99th percentile of covered pixels over all frames, so that a video does not flicker.
    """
    covered = (alpha > 0.5) & (depth > 0)
    if not bool(covered.any()):
        return torch.zeros(*depth.shape, 3, device=depth.device)
    values = depth[covered]
    # a copy: a view would keep all of them
    values = values[:: max(1, len(values) // 100_000)].clone()
    near, far = torch.quantile(values, values.new_tensor([0.01, 0.99])).tolist()
    made = depth.new_zeros(*depth.shape, 3)
    # one image at a time: all of a long video take several times the memory of the result
    for image, z, mask in zip(_images(made, 3), _images(depth, 2), _images(covered, 2), strict=True):
        shade = 1 - 0.85 * ((z - near) / max(far - near, 1e-9)).clamp(0, 1)
        image.copy_(torch.where(mask, shade, 0)[..., None].expand_as(image))
    return made


def flow_picture(flow: Tensor) -> Tensor:
    """Flow [..., H, W, 2] as color [..., H, W, 3]: hue = direction, strength = length (99th percentile = full)."""
    pixels = flow.reshape(-1, 2)
    values = pixels[:: max(1, len(pixels) // 100_000)].norm(dim=-1)
    full = max(float(torch.quantile(values, 0.99)), 1e-6)
    thirds = flow.new_tensor([0.0, 2 * torch.pi / 3, -2 * torch.pi / 3])
    made = flow.new_empty(*flow.shape[:-1], 3)
    for image, shift in zip(_images(made, 3), _images(flow, 3), strict=True):
        angle = torch.atan2(shift[..., 1], shift[..., 0])[..., None] + thirds
        strength = (shift.norm(dim=-1) / full).clamp(0, 1)[..., None]
        image.copy_((0.5 + 0.5 * angle.cos()) * strength)
    return made


def _images(values: Tensor, dims: int) -> Tensor:
    """The images, of `dims` dimensions each, of contiguous values, as a batch that shares their memory."""
    return values.reshape(-1, *values.shape[-dims:])


# mean color difference that is drawn white
ERROR_FULL = 0.2


def heat(share: Tensor) -> Tensor:
    """0..1 [...] as color [..., 3]: black, red, yellow, white."""
    return torch.stack([(share * 3 - i).clamp(0, 1) for i in range(3)], dim=-1)


def error_picture(a: Tensor, b: Tensor) -> Tensor:
    """Difference of two images [..., H, W, 3]: black = none, white = ERROR_FULL or more."""
    return heat(((a - b).abs().mean(-1) / ERROR_FULL).clamp(0, 1))


def marked(image: Tensor, weight: Tensor, outline: Tensor | None = None) -> Tensor:
    """An image [H, W, 3] with `weight` [H, W] in red, and a yellow outline of the mask `outline` [H, W]."""
    red, yellow = image.new_tensor([1.0, 0.1, 0.1]), image.new_tensor([1.0, 0.9, 0.1])
    weight = weight[..., None].clamp(0, 1)
    made = image * (1 - 0.6 * weight) + red * 0.6 * weight
    if outline is None:
        return made
    inside = (outline > 0.5).to(image)[None, None]
    # inside pixels that touch an outside one: erosion is the maximum of the negative
    rim = (inside + torch.nn.functional.max_pool2d(-inside, 3, 1, 1))[0, 0] > 0.5
    return torch.where(rim[..., None], yellow, made)


def spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` images to show: evenly spaced, including the first and the last."""
    shown = min(count, most)
    return [round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)]


def padded(pictures: list[Tensor]) -> Tensor:
    """Images [H, W, 3] of different sizes as one batch [K, H, W, 3], padded with white at the right and bottom."""
    if not pictures:
        return torch.zeros(0, 1, 1, 3)
    height, width = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    result = torch.ones(len(pictures), height, width, 3)
    for i, p in enumerate(pictures):
        result[i, : p.shape[0], : p.shape[1]] = p
    return result
