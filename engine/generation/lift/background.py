"""The static background of a clip, fused from all frames.

Frames add only what the patches so far do not show at least as finely; then every patch takes the mean place and color of
all frames that see it.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from ...render import choose, render_gaussians
from ...scene import harmonics
from ...scene.cameras import Cameras
from ...tracking.flow import sampled
from .seen_points import seen_points, shown_pixels
from .unproject import Patches, as_gaussians, depth_edges, patches_of, world_points

# relative difference of depth within which two surfaces are the same
SAME = 0.03
# a patch is replaced where a later frame shows it so much finer
FINER = 0.6
# share of shown pixels around a pixel from which it counts as shown
AROUND = 0.45
# frames of the mean, and of the rounds that sharpen
MOST_FRAMES, SHARPENED_FRAMES, ROUNDS = 24, 12, 3


def fused_background(
    images: Tensor, depth: Tensor, cameras: Cameras, static: Tensor
) -> Generator[int, None, Patches]:
    """Patches of what does not move.

    Args:
        images: Frames [T, H, W, 3] in 0..1.
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
        static: [T, H, W] bool.

    Yields:
        Number of finished frames, of 2·T.

    Returns:
        The fused patches.
    """
    usable = static & ~depth_edges(depth)
    patches: Patches | None = None
    order = _spread_order(len(images))
    for done, t in enumerate(order):
        new = usable[t]
        if patches is not None:
            new = new & ~_shown(patches, depth[t], cameras[t])
        found = patches_of(images[t], torch.nan_to_num(depth[t], nan=1.0), cameras[t], new)
        patches = found if patches is None else Patches.joined([patches, found])
        yield done + 1
    assert patches is not None
    mean = yield from _averaged(patches, images, depth, cameras, usable)
    return _sharpened(mean, images, depth, cameras, usable)


def _spread_order(count: int) -> list[int]:
    """Middle, both ends, then halves of the gaps: each new frame sees much that is new."""
    order: list[int] = []
    for t in (count // 2, 0, count - 1):
        if t not in order:
            order.append(t)
    step = count
    while len(order) < count:
        step = max(1, step // 2)
        order += [t for t in range(0, count, step) if t not in order]
    return order


def _shown(patches: Patches, depth: Tensor, camera: Cameras) -> Tensor:
    """Pixels [H, W] bool where patches already show the surface finely enough."""
    at = seen_points(patches.places, depth, camera)
    fine = patches.footprint * FINER <= at.depth / float(camera.K[0, 0, 0])
    return shown_pixels(at, at.agree(SAME) & fine, (depth.shape[0], depth.shape[1]), AROUND)


def _sharpened(patches: Patches, images: Tensor, depth: Tensor, cameras: Cameras, usable: Tensor) -> Patches:
    """Colors corrected by what rendering them misses: overlapping Gaussians blur (Van Cittert's iteration)."""
    rasterizer = choose("auto")
    chosen = (
        torch.linspace(0, len(images) - 1, min(len(images), SHARPENED_FRAMES))
        .round()
        .long()
        .unique()
        .tolist()
    )
    shape = as_gaussians(patches)
    for _ in range(ROUNDS):
        total, count = torch.zeros_like(patches.colors), torch.full((len(patches.colors), 1), 1e-6)
        painted = shape.with_(sh=harmonics.rgb_to_dc(patches.colors)[:, None])
        for t in chosen:
            with torch.no_grad():
                drawn = render_gaussians(painted, cameras[t], rasterizer, torch.zeros(3)).rgb[0]
            missing = (images[t] - drawn) * usable[t, ..., None]
            at = seen_points(patches.places, depth[t], cameras[t])
            seen = at.agree(SAME) & usable[t, at.row, at.column]
            values = sampled(missing.permute(2, 0, 1)[None], at.pixels[None].float())[0]
            total, count = total + seen[:, None] * values, count + seen[:, None]
        patches = patches._replace(colors=(patches.colors + total / count).clamp(0, 1))
    return patches


def _averaged(
    patches: Patches, images: Tensor, depth: Tensor, cameras: Cameras, usable: Tensor
) -> Generator[int, None, Patches]:
    count = len(images)
    weights = torch.full((len(patches.places),), 1e-3)
    places, colors = patches.places * 1e-3, patches.colors * 1e-3
    chosen = torch.linspace(0, count - 1, min(count, MOST_FRAMES)).round().long().unique().tolist()
    for done, t in enumerate(chosen):
        at = seen_points(patches.places, depth[t], cameras[t])
        seen = at.agree(SAME) & usable[t, at.row, at.column]
        planes = torch.cat([images[t], torch.nan_to_num(depth[t])[..., None]], -1).permute(2, 0, 1)[None]
        values = sampled(planes, at.pixels[None].float())[0]
        footprint = at.z / float(cameras.K[t, 0, 0])
        weight = seen * (patches.footprint / footprint.clamp(min=1e-9)).clamp(max=2).square()
        found = world_points(values[:, 3], cameras[t], at.pixels)
        weights = weights + weight
        places = places + weight[:, None] * torch.nan_to_num(found)
        colors = colors + weight[:, None] * values[:, :3]
        yield count + (done + 1) * count // len(chosen)
    return patches._replace(places=places / weights[:, None], colors=colors / weights[:, None])
