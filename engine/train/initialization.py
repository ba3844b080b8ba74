"""The first Gaussians: from points, from silhouettes, or at random in the bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry.carving import carve, hull_surface, in_picture
from ..scene import Gaussians, MultiViewVideo, harmonics
from .targets import Targets


def neighbour_distance(points: Tensor, neighbours: int = 3) -> Tensor:
    """Root-mean-square distance [P] to the nearest few other points (3DGS's initial scale), world units."""
    if len(points) <= neighbours:
        return torch.full((len(points),), 0.01)
    # imported here: it would double the import time of the engine
    from scipy.spatial import KDTree

    found, _ = KDTree(points.numpy()).query(points.numpy(), k=neighbours + 1)
    return torch.from_numpy(np.sqrt((found[:, 1:] ** 2).mean(axis=1))).float().clamp(min=1e-7)


def gaussians_at(points: Tensor, colors: Tensor, opacity: float, sh_degree: int) -> Gaussians:
    """Isotropic Gaussians at `points` [P, 3] with flat `colors` [P, 3], as large as the gaps between them."""
    count = len(points)
    sh = torch.zeros(count, harmonics.bases(sh_degree), 3)
    sh[:, 0] = harmonics.rgb_to_dc(colors.float())
    return Gaussians(
        means=points.float(),
        log_scales=neighbour_distance(points.float()).log()[:, None].repeat(1, 3),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        logit_opacities=torch.full((count,), opacity).logit(),
        sh=sh,
    )


def carved_cells(
    video: MultiViewVideo, views: tuple[int, ...], moment: int, bounds: Tensor, resolution: int
) -> Tensor:
    """Centers [P, 3] of the cells of a grid over `bounds` [2, 3] that lie inside every view's mask at one frame.

    At least half of the views must see them.
    """
    axes = [torch.linspace(float(lo), float(hi), resolution) for lo, hi in bounds.T]
    frames = ((v, video.source.read(v, moment)) for v in views if bool(video.available[v, moment]))
    masks = ((view, frame.mask > 127) for view, frame in frames if frame.mask is not None)
    carved = carve(video.cameras, masks, torch.cartesian_prod(*axes))
    return carved.cells[carved.seen >= max(1, carved.views / 2)]


def sampled_colors(targets: Targets, views: tuple[int, ...], moment: int, points: Tensor) -> Tensor:
    """The median color [P, 3] of the views that see each point; gray where none does."""
    stack: list[Tensor] = []
    for view in views:
        if not targets.video.available[view, moment]:
            continue
        image = targets.get(view, moment).image.cpu()
        column, row, seen = in_picture(targets.video.cameras, points, view)
        stack.append(torch.where(seen[:, None], image[row, column], torch.nan))
    if not stack:
        return torch.full((len(points), 3), 0.5)
    return torch.stack(stack).nanmedian(dim=0).values.nan_to_num(0.5)


def anchor_moment(video: MultiViewVideo, views: tuple[int, ...], moments: Sequence[int]) -> int:
    """The frame of `moments` with the most views; of several, the one in the middle."""
    together = video.available[list(views)][:, list(moments)].sum(dim=0)
    best = (together == together.max()).nonzero().flatten()
    return moments[int(best[len(best) // 2])]


def first_gaussians(
    video: MultiViewVideo,
    targets: Targets,
    views: tuple[int, ...],
    moments: Sequence[int],  # that are trained on: no other frame is looked at
    bounds: Tensor,  # [2, 3]
    method: str,  # "auto" | "points" | "silhouettes" | "random"
    count: int,
    sh_degree: int,
    generator: torch.Generator,
) -> tuple[Gaussians, str]:
    """(Gaussians, one line about where they were placed).

    "auto" uses the capture's points if there are at least 100, else silhouettes if there are masks and more than two
    views of one frame, else random points. Raises InputError where the capture does not allow the named method.
    """
    moment = anchor_moment(video, views, moments)
    together = int(video.available[list(views), moment].sum())
    if method == "auto":
        if video.points is not None and len(video.points) >= 100:
            method = "points"
        else:
            method = "silhouettes" if video.has_masks and together > 2 else "random"
    if method == "points":
        if video.points is None or len(video.points) == 0:
            raise InputError(
                "TRN-004",
                f"{video.name} does not contain initial points; set initialization to 'auto', 'silhouettes' or 'random'.",
            )
        chosen = torch.randperm(len(video.points), generator=generator)[:count]
        points = video.points[chosen].float()
        colors = (
            torch.full_like(points, 0.5) if video.point_colors is None else video.point_colors[chosen].float()
        )
        return gaussians_at(points, colors, 0.1, sh_degree), f"{len(points)} of the capture's points"
    if method == "silhouettes":
        if not video.has_masks or together < 2:
            raise InputError(
                "TRN-005",
                f"{video.name} does not have masks in two views of one frame, which silhouettes need; set initialization to "
                "'auto' or 'random'.",
            )
        inside = carved_cells(video, views, moment, bounds, resolution=32)
        if len(inside) < 8:
            raise InputError(
                "TRN-006",
                f"{video.name}: the masks of frame {moment} do not enclose a common volume; check the cameras and the "
                "masks, or set initialization to 'random'.",
            )
        margin = (bounds[1] - bounds[0]).float() / 31
        tight = torch.stack([inside.amin(0) - margin, inside.amax(0) + margin])
        surface = hull_surface(carved_cells(video, views, moment, tight, resolution=96))
        surface = surface if len(surface) >= 100 else inside
        chosen = torch.randint(len(surface), (count,), generator=generator)
        cell = (tight[1] - tight[0]) / 95
        points = surface[chosen]
        points = points + (torch.rand(points.shape, generator=generator) - 0.5) * cell
        colors = sampled_colors(targets, views, moment, points)
        return gaussians_at(
            points, colors, 0.5, sh_degree
        ), f"{len(points)} points on the visual hull of the masks"
    low, high = bounds.float()
    points = low + (high - low) * torch.rand((count, 3), generator=generator)
    colors = 0.5 + 0.1 * (torch.rand((count, 3), generator=generator) - 0.5)
    return gaussians_at(points, colors, 0.1, sh_degree), f"{count} random points in the bounds"
