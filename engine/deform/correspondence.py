"""Whether equal rows of two frames are the same Gaussian, and which rows are where they are not.

Files of moving Gaussians mostly keep their order. Some programs sort each frame by place in space (Morton order), others train
or generate each frame by itself: interpolated row by row, such Gaussians would fly across the scene.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..scene import Gaussians

# Gaussians of a frame that stand for all
SAMPLES = 512
# columns of features: place, log scales, color, opacity
LOOKS = (slice(3, 6), slice(6, 9), slice(9, 10))
# spreads of log scales, colors (SH) and opacities below which Gaussians look alike, as those sampled on a mesh do
LEAST = (*(0.2,) * 3, *(0.1,) * 3, 0.05)
# of how much the Gaussians of a frame differ: what one may change from frame to frame and be known by its looks
SAME = 0.05
# of different Gaussians: where more are alike in their color, say, being alike says little
ALIKE = 0.1
# of the rows: what must be confirmed
MOST = 0.95
# Gaussians around one that stay around it when it moves
NEIGHBORS = 4
# how much farther from them it may be in the next frame
STRETCH = 1.5
# the nearest row is clearly the right one where the next is so many times as far; it must be for so many rows
CLEARLY, CLEAR = 1.5, 0.5
# of how much Gaussians differ: changes below it count alike when the features are weighed
STEADY = 0.01
# world units
FARTHEST = 1e30
# rounds in which rows that two want are given to the nearer, and the largest rest that is then assigned at once
ROUNDS, LARGEST_REST = 8, 1500

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]


def is_same_order(first: Gaussians, second: Gaussians) -> bool:
    """Whether row i of two frames in a row, with N Gaussians each, is the same Gaussian.

    A sample of rows is looked at. A row is confirmed by what rarely changes (scale, color, opacity: far less than between
    different Gaussians), by keeping its neighbors, or because no other row is nearer to it in place and looks.
    """
    a, b = _features(first, second)
    if len(a) < 2 or np.array_equal(a, b):
        return True
    rows = np.unique(np.linspace(0, len(a) - 1, SAMPLES).round().astype(np.int64))
    other = np.random.default_rng(0).permutation(rows)
    confirmed = np.zeros(len(rows), bool)
    for look in LOOKS:
        if float(_is_same(a[rows, look], b[other, look]).mean()) <= ALIKE:
            confirmed |= _is_same(a[rows, look], b[rows, look])
    if float(confirmed.mean()) >= MOST:
        return True
    confirmed |= _keeps_neighbors(a, b, rows)
    if float(confirmed.mean()) >= MOST:
        return True
    own = ((a[rows] - b[rows]) ** 2).sum(axis=1)
    nearest = _tree(b).query(a[rows])[0] ** 2
    return float((confirmed | (own <= nearest + 1e-9)).mean()) >= MOST


def _keeps_neighbors(a: Numbers, b: Numbers, rows: Rows) -> NDArray[np.bool_]:
    """Whether the nearest Gaussians around a row stay around it: surfaces stretch little from frame to frame, and other orders
    scatter neighbors."""
    if len(a) <= NEIGHBORS:
        return np.zeros(len(rows), bool)
    apart, near = _tree(a[:, :3]).query(a[rows, :3], k=NEIGHBORS + 1)
    # the nearest is itself
    then = np.linalg.norm(b[near[:, 1:], :3] - b[rows, None, :3], axis=2)
    return np.asarray(np.median(then, axis=1) <= STRETCH * apart[:, 1:].mean(axis=1))


def matching_rows(first: Gaussians, second: Gaussians) -> Tensor | None:
    """Rows [N] of the second frame in the order of the first, by place and looks; None where they are not the same Gaussians.

    Each Gaussian of the first frame takes the nearest of the second that is left. They are the same where at least MOST of them
    want different ones.
    """
    a, b = _features(first, second)
    if len(a) < 2:
        return None
    rows = np.unique(np.linspace(0, len(a) - 1, SAMPLES).round().astype(np.int64))
    apart, nearest = _tree(b).query(a[rows], k=2)
    is_clear = apart[:, 1] >= CLEARLY * apart[:, 0]
    # what unrelated frames cost is known after a few rows
    if float(is_clear.mean()) < CLEAR:
        return None
    # what Gaussians keep tells more than what changes
    change = np.median(np.abs(a[rows] - b[nearest[:, 0]])[is_clear], axis=0)
    a, b = (each / (change + STEADY) for each in (a, b))
    found = np.full(len(a), -1, np.int64)
    left, free = np.arange(len(a)), np.arange(len(b))
    for number in range(ROUNDS):
        won, taken = _nearest(a[left], b[free])
        if number == 0 and len(won) < MOST * len(a):
            return None
        found[left[won]] = free[taken]
        left, free = np.delete(left, won), np.delete(free, taken)
        if len(left) <= LARGEST_REST:
            break
    if len(left) > LARGEST_REST:
        return None
    if len(left):
        # imported on first use: the pack loads without scipy
        from scipy.optimize import linear_sum_assignment

        apart = ((a[left][:, None] - b[free][None]) ** 2).sum(axis=2)
        own, theirs = linear_sum_assignment(apart)
        found[left[own]] = free[theirs]
    return torch.from_numpy(found)


def _nearest(a: Numbers, b: Numbers) -> tuple[Rows, Rows]:
    """For rows of `a` the nearest of `b`; of several rows that want the same, the nearest one gets it."""
    apart, wanted = _tree(b).query(a)
    order = np.argsort(apart, kind="stable")
    _, first = np.unique(wanted[order], return_index=True)
    won = order[first]
    return won, wanted[won]


def _tree(rows: Numbers) -> Any:
    # imported on first use: the pack loads without scipy
    from scipy.spatial import KDTree

    return KDTree(rows, balanced_tree=False, compact_nodes=False)


def _is_same(a: Numbers, b: Numbers) -> NDArray[np.bool_]:
    return np.asarray((np.abs(a - b) <= SAME).all(axis=1))


@torch.no_grad()
def _features(first: Gaussians, second: Gaussians) -> tuple[Numbers, Numbers]:
    """Place, log scales, color and opacity of both frames [N, 10], in units of how much Gaussians of the first differ in them."""
    middle = first.means.double().nan_to_num().median(dim=0).values
    made: list[Tensor] = []
    for g in (first, second):
        parts = [
            g.means.double() - middle,
            g.log_scales.double().clamp(-15, 15),
            g.sh[:, 0].double().clamp(-5, 5),
            g.logit_opacities.double()[:, None].sigmoid(),
        ]
        # damaged files hold numbers near the end of float32, of which squares are needed
        made.append(
            torch.cat(parts, dim=1).nan_to_num(posinf=FARTHEST, neginf=-FARTHEST).clamp(-FARTHEST, FARTHEST)
        )
    spread = made[0].std(dim=0, correction=0)
    # the place has one unit for all axes
    spread[:3] = made[0][:, :3].sub(made[0][:, :3].median(dim=0).values).abs().median().clamp(min=1e-9) * 2
    spread[3:] = spread[3:].maximum(torch.tensor(LEAST, dtype=torch.float64))
    a, b = ((each / spread).numpy() for each in made)
    return a, b
