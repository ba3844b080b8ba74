"""Where the subject is: a box from initial points, or from the region that the cameras look at together."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.axes import nearest_to_axes
from ..geometry.boxes import point_bounds
from ..scene.video import MultiViewVideo

# Share of the views that must see a place for it to belong to the scene.
SHARE = 0.6
# Cells along each axis of the sampled box
GRID = 40
# Views sampled at most; more add nothing.
MOST_VIEWS = 64


def scene_bounds(video: MultiViewVideo) -> Tensor:
    """Minimum and maximum corner [2, 3] float64 of the region worth filling with Gaussians, world units.

    From initial points where there are at least 50: the 1st to 99th percentile on each axis, widened by a tenth. Else
    from the cameras: the box around the places that at least 60 % of the views see between near and far.
    """
    if video.points is not None and len(video.points) >= 50:
        return point_bounds(video.points)
    return _from_cameras(video)


def gaze_center(video: MultiViewVideo) -> tuple[Tensor, Tensor]:
    """The point [3] nearest to all viewing axes (least squares), and its distances [V] along each axis, float64."""
    centers, forward = video.cameras.centers.double(), video.cameras.forward.double()
    # parallel axes meet nowhere: a little weight on the rig's own middle keeps the answer finite
    point = nearest_to_axes(centers, forward, pull=1e-6)
    return point, ((point - centers) * forward).sum(-1)


def seen_share(video: MultiViewVideo, points: Tensor) -> Tensor:
    """For world `points` [P, 3]: the share [P] in 0..1 of views that have them in the image, between near and far."""
    views = list(range(0, video.views, max(1, -(-video.views // MOST_VIEWS))))
    near = video.near or 1e-6
    far = video.far or float("inf")
    seen = torch.zeros(len(points), dtype=torch.float64)
    for view in views:
        pixels, depth = video.cameras.project(points, view)
        width, height = video.cameras.sizes[view]
        x, y = pixels.unbind(-1)
        seen += (depth > near) & (depth < far) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    return seen / len(views)


def _from_cameras(video: MultiViewVideo) -> Tensor:
    center, distances = gaze_center(video)
    spread = (video.cameras.centers.double() - video.cameras.centers.double().mean(0)).norm(dim=-1).max()
    reach = float(distances.median())
    # axes that diverge, or a single camera: the middle of its depth range, or a unit ahead
    if not reach > 1e-6:
        reach = 0.5 * (video.near + video.far) if video.near and video.far else max(float(spread), 1.0)
        ahead = video.cameras.centers.double() + reach * video.cameras.forward.double()
        center = ahead.mean(0)
    if video.near and video.far:
        depth_reach = 0.5 * (video.near + video.far)
        if not 0.25 * depth_reach < reach < 4 * depth_reach:
            reach = depth_reach
            center = (video.cameras.centers.double() + reach * video.cameras.forward.double()).mean(0)
    half = torch.full((3,), reach, dtype=torch.float64)
    share = SHARE
    # each round looks closer at the box that the last one found
    for _ in range(3):
        axes = [torch.linspace(-float(h), float(h), GRID, dtype=torch.float64) for h in half]
        grid = torch.cartesian_prod(*axes) + center
        visible = seen_share(video, grid)
        share = min(share, float(visible.max()))
        inside = grid[visible >= max(share, 1e-9)]
        if len(inside) == 0:
            break
        cell = 2 * half / (GRID - 1)
        low, high = inside.amin(0) - cell, inside.amax(0) + cell
        center, half = 0.5 * (low + high), 0.5 * (high - low)
    return torch.stack([center - half, center + half])
