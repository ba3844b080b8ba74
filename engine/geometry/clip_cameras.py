"""Cameras of a clip from one moving camera: poses, focal length, and each depth map's scale and shift, from tracked points.

Robust to things that move: poses are found by RANSAC, refined together with Cauchy's kernel, and tracks that do not fit
are reported as moving.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.cameras import Cameras
from .clip_adjustment import DEPTH_SIGMA, LEAST_DEPTH, Observations, State, adjust, cauchy, residuals
from .clip_start import FEWEST, line, pose_from_points

# horizontal field of view in degrees that an unknown focal length starts from
FIELDS_OF_VIEW = (50.0, 35.0, 70.0, 90.0)
# kernel widths of the adjustment in pixels at a width of 160, and steps with each
STAGES = ((2.0, 5), (1.0, 6), (0.5, 6), (0.5, 10))
# pixels at a width of 160 up to which a track supports a pose at the start, and frames that its beginning may lie back
SUPPORT, BACK = 0.7, 10
# most tracks that are adjusted: more add time, not accuracy
MOST_TRACKS, MOST_SIGHTINGS = 800, 8
# trust below which a track counts as moving after the first pass
LEAST_TRUST = 0.1


class Sightings(NamedTuple):
    """Tracked points of a clip, and its depth maps at them."""

    pixels: Tensor  # [T, N, 2]
    visible: Tensor  # [T, N] bool
    anchors: Tensor  # [N] long
    values: Tensor  # [T, N] of the depth maps, NaN where they have none
    is_disparity: bool


@dataclass(frozen=True, eq=False)
class SolvedClip:
    """Cameras of a clip, in axes of the first one and units of its depth map."""

    cameras: Cameras  # [T]
    scale: Tensor  # [T]: depth (or disparity) = scale · map + shift
    shift: Tensor  # [T]
    errors: Tensor  # [N] median reprojection error of each track in pixels, NaN where it was not used
    parallax: (
        float  # median displacement by the camera's movement between the frames farthest apart, in pixels
    )
    cost: float  # per sighting, comparable between kinds of depth maps


def solve_cameras(
    seen: Sightings, size: tuple[int, int], focal: float | None = None, trusted: Tensor | None = None
) -> SolvedClip:
    """Solve for the cameras of a clip.

    Args:
        seen: Tracks and depth values.
        size: Width and height of the frames.
        focal: Focal length in pixels; None: solved for.
        trusted: Tracks [N] bool that may be used: those not known to move.

    Raises:
        InputError: Too few tracks between two frames.
    """
    # a first, short pass finds what moves; the second one starts again without it
    first = _pass(seen, _chosen(seen, trusted), size, focal, is_last=False)
    still = torch.zeros(len(seen.anchors), dtype=torch.bool)
    still[first.index] = _trust(first.state, first.observed, STAGES[0][0] * size[0] / 160) > LEAST_TRUST
    last = _pass(seen, still.nonzero().flatten(), size, float(first.state.log_focal.exp()), is_last=True)
    if focal is None:
        for width, steps in STAGES[1:]:
            last = last.adjusted(width * size[0] / 160, steps, solves_focal=True)
    return _solved(last, size, len(seen.anchors))


@dataclass(frozen=True, eq=False)
class _Pass:
    """One solution and what it was made of."""

    state: State
    observed: Observations
    seen: Sightings
    index: Tensor  # [M] of the tracks
    unit: Tensor  # [T] medians of the depth maps
    cost: float

    def adjusted(self, width: float, steps: int, solves_focal: bool) -> _Pass:
        trust = _trust(self.state, self.observed, width)
        state, cost = adjust(
            self.state, self.observed, width, steps, weights=trust, solves_focal=solves_focal
        )
        return replace(self, state=state, cost=cost)


def _pass(seen: Sightings, index: Tensor, size: tuple[int, int], focal: float | None, is_last: bool) -> _Pass:
    """Start and adjustment with the tracks `index` [M]; without a focal length, the best of several."""
    seen = Sightings(
        seen.pixels[:, index].double(),
        seen.visible[:, index],
        seen.anchors[index],
        seen.values[:, index].double(),
        seen.is_disparity,
    )
    _check_links(seen)
    known = [v[~v.isnan()] for v in seen.values]
    unit = torch.stack([v.median() if len(v) else v.new_ones(()) for v in known])
    observed = _observations(seen, unit, size)
    pixel = size[0] / 160
    starts = [focal] if focal else [size[0] / 2 / math.tan(math.radians(a) / 2) for a in FIELDS_OF_VIEW]
    passes: list[_Pass] = []
    for f in starts:
        state = _started(seen, observed, unit, torch.tensor(f).double(), SUPPORT * pixel)
        made = _Pass(state, observed, seen, index, unit, math.inf)
        for width, steps in STAGES if is_last else STAGES[:2]:
            made = made.adjusted(width * pixel, steps, solves_focal=False)
        if focal is None:
            # costs of different trusts do not compare
            made = replace(made, cost=adjust(made.state, observed, pixel, 0)[1])
        passes.append(made)
    return min(passes, key=lambda p: p.cost)


def _chosen(seen: Sightings, trusted: Tensor | None) -> Tensor:
    """Tracks [M] long that are used: with a depth at their anchor, and evenly thinned."""
    at = torch.arange(len(seen.anchors))
    usable = ~seen.values[seen.anchors, at].isnan() & (seen.visible.sum(0) >= 2)
    if trusted is not None:
        usable &= trusted
    index = usable.nonzero().flatten()
    if len(index) > MOST_TRACKS:
        index = index[torch.linspace(0, len(index) - 1, MOST_TRACKS).round().long()]
    return index


def _check_links(seen: Sightings) -> None:
    shared = (seen.visible[1:] & seen.visible[:-1]).sum(1)
    if len(shared) and int(shared.min()) < FEWEST:
        frame = int(shared.argmin())
        raise InputError(
            "GEO-010",
            f"Only {int(shared.min())} points could be followed from frame {frame} to frame {frame + 1}. If there is a cut, "
            "use the frames before or after it; otherwise connect cameras, or choose the fixed camera.",
        )


def _observations(seen: Sightings, unit: Tensor, size: tuple[int, int]) -> Observations:
    at = torch.arange(len(seen.anchors))
    # an even choice of each track's frames, its last ones included
    order = seen.visible.cumsum(0)
    total = order[-1].clamp(min=2)
    rank = (order - 1) * (MOST_SIGHTINGS - 1) / (total - 1)
    chosen = seen.visible & (
        (total <= MOST_SIGHTINGS) | (rank.ceil() - rank < (MOST_SIGHTINGS - 1) / (total - 1))
    )
    frame, point = chosen.nonzero().unbind(1)
    return Observations(
        point=point,
        frame=frame,
        pixels=seen.pixels[frame, point],
        depth=seen.values[frame, point] / unit[frame],
        anchor=seen.anchors,
        anchor_pixels=seen.pixels[seen.anchors, at],
        center=torch.tensor(size).double() / 2,
        is_disparity=seen.is_disparity,
    )


def _started(seen: Sightings, observed: Observations, unit: Tensor, focal: Tensor, width: float) -> State:
    """Frame by frame: a pose from points of earlier frames, then the depth map's scale and shift from those that fit."""
    frames, count = seen.visible.shape
    zero = torch.zeros(frames).double()
    state = State(
        torch.eye(4).double().repeat(frames, 1, 1),
        zero,
        zero.clone(),
        focal.log(),
        torch.zeros(count).double(),
    )
    values = seen.values / unit[:, None]
    rays = torch.cat([(observed.anchor_pixels - observed.center) / focal, torch.ones(count, 1).double()], 1)
    depth, world = torch.ones(count).double(), torch.zeros(count, 3).double()
    for t in range(frames):
        if t > 0:
            here = (seen.visible[t] & (seen.anchors < t) & (seen.anchors >= t - BACK)).nonzero().flatten()
            _place(state, t, world[here], seen.pixels[t, here], values[t, here], observed, width)
        begun = (seen.anchors == t).nonzero().flatten()
        depth[begun] = state.depths(values[t, begun], seen.anchors[begun], seen.is_disparity)
        pose = state.poses[t]
        world[begun] = (rays[begun] * depth[begun, None] - pose[:3, 3]) @ pose[:3, :3]
    return replace(state, log_inverse=-depth.log())


def _place(
    state: State, t: int, world: Tensor, pixels: Tensor, values: Tensor, observed: Observations, width: float
) -> None:
    """Fills in frame `t` of a state that is being made."""
    state.poses[t], state.log_scale[t], state.shift[t] = (
        state.poses[t - 1],
        state.log_scale[t - 1],
        state.shift[t - 1],
    )
    if len(world) < FEWEST:
        return
    focal = state.log_focal.exp()
    state.poses[t], errors = pose_from_points(
        world, pixels, state.poses[t - 1], focal, observed.center, width
    )
    depth = world @ state.poses[t, 2, :3] + state.poses[t, 2, 3]
    fits = (errors < 2 * width) & ~values.isnan() & (depth > LEAST_DEPTH)
    if int(fits.sum()) >= FEWEST:
        known = depth[fits]
        state.log_scale[t], state.shift[t] = line(values[fits], 1 / known if observed.is_disparity else known)


def _trust(state: State, seen: Observations, width: float) -> Tensor:
    """Weight of each track [N]: one that moves fits badly in most of its frames."""
    pixel, depth = residuals(state, seen)
    error = pixel.square().sum(1) / width**2 + torch.nan_to_num((depth / (2 * DEPTH_SIGMA)).square())
    # the anchor itself always fits
    others = seen.frame != seen.anchor[seen.point]
    count = torch.zeros(len(seen.anchor)).double().index_add_(0, seen.point, others.double())
    mean = torch.zeros_like(count).index_add_(0, seen.point, others * error.clamp(max=25)) / count.clamp(
        min=1
    )
    return cauchy(mean).square()


def _solved(made: _Pass, size: tuple[int, int], total: int) -> SolvedClip:
    state, seen, observed, unit = made.state, made.seen, made.observed, made.unit
    frames, count = seen.visible.shape
    pixel, _ = residuals(state, observed)
    errors = torch.full((frames, count), torch.nan).double()
    errors[observed.frame, observed.point] = pixel.norm(dim=1)
    # the anchor itself always fits
    errors[seen.anchors, torch.arange(count)] = torch.nan
    of_all = torch.full((total,), torch.nan).double()
    of_all[made.index] = errors.nanmedian(0).values
    focal = float(state.log_focal.exp())
    K = torch.tensor([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]], dtype=torch.float64)
    names = tuple(f"frame{i:04}" for i in range(frames))
    # the first map's own unit: so far, its median is 1
    size_of_one = 1 / unit[0] if seen.is_disparity else unit[0]
    poses = state.poses.clone()
    poses[:, :3, 3] *= size_of_one
    cameras = Cameras(poses, K.repeat(frames, 1, 1), (size,) * frames, names)
    return SolvedClip(
        cameras,
        unit[0] * state.log_scale.exp() / unit,
        unit[0] * state.shift,
        of_all,
        _parallax(state, observed),
        adjust(state, observed, size[0] / 160, 0)[1],
    )


def _parallax(state: State, seen: Observations) -> float:
    """Median displacement in pixels that the camera's movement alone causes, in the frame where it is largest."""
    anchor = seen.anchor[seen.point]
    first, second = state.poses[anchor], state.poses[seen.frame]
    focal = state.log_focal.exp()
    flat = (seen.anchor_pixels[seen.point] - seen.center) / focal
    rays = torch.cat([flat, torch.ones_like(flat[:, :1])], 1)[..., None]
    turned = (second[:, :3, :3] @ (first[:, :3, :3].transpose(1, 2) @ rays))[..., 0]
    apart = (focal * turned[:, :2] / turned[:, 2:] + seen.center - seen.pixels).norm(dim=1)
    frames = [apart[seen.frame == t] for t in range(len(state.poses))]
    return max((float(each.median()) for each in frames if len(each) >= FEWEST), default=0.0)
