"""Bundle adjustment of one moving camera with a depth map per frame: poses, depth scale and shift, focal length, points.

Each point is a pixel of its anchor frame and an inverse depth. Residuals are reprojection errors, and log depths against
the frames' depth maps after each map's own scale and shift. Points are eliminated (Schur complement; Triggs et al. 2000,
section 6), and the kernel is Cauchy's, applied by reweighting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# priors (one sigma): shift of a depth map whose median is 1, log focal length
SHIFT_SIGMA, FOCAL_SIGMA = 1.0, 0.6
# sigma of log depth against a depth map
DEPTH_SIGMA = 0.03
LEAST_DEPTH = 1e-3


@dataclass(frozen=True, eq=False)
class Observations:
    """M sightings of N points. Tensors are float64 unless said otherwise."""

    point: Tensor  # [M] long
    frame: Tensor  # [M] long
    pixels: Tensor  # [M, 2]
    depth: Tensor  # [M] of the frame's map, scaled to a median of 1; NaN where the map has none
    anchor: Tensor  # [N] long: each point's anchor frame
    anchor_pixels: Tensor  # [N, 2]
    center: Tensor  # [2] principal point
    is_disparity: bool = False  # scale and shift apply to inverse depth


@dataclass(frozen=True, eq=False)
class State:
    """What is solved for."""

    poses: Tensor  # [T, 4, 4] world_to_camera; the first stays
    log_scale: Tensor  # [T] of each depth map; the first stays
    shift: Tensor  # [T] of each depth map
    log_focal: Tensor  # []
    log_inverse: Tensor  # [N] log inverse depths of the points in their anchor frames

    def depths(self, values: Tensor, frame: Tensor, is_disparity: bool) -> Tensor:
        """Depths in world units of map values [M] in frames [M]."""
        fitted = self.log_scale[frame].exp() * values + self.shift[frame]
        return 1 / fitted.clamp(min=LEAST_DEPTH) if is_disparity else fitted.clamp(min=LEAST_DEPTH)


def skew(v: Tensor) -> Tensor:
    """Cross-product matrices [..., 3, 3] of vectors [..., 3]."""
    zero = torch.zeros_like(v[..., 0])
    x, y, z = v.unbind(-1)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).reshape(*v.shape[:-1], 3, 3)


def moved_poses(poses: Tensor, steps: Tensor) -> Tensor:
    """Poses [B, 4, 4] after small turns and shifts [B, 6] in their cameras' axes."""
    turn = torch.linalg.matrix_exp(skew(steps[:, :3]))
    result = poses.clone()
    result[:, :3, :3] = turn @ poses[:, :3, :3]
    result[:, :3, 3] = (turn @ poses[:, :3, 3:])[..., 0] + steps[:, 3:]
    return result


def projection(places: Tensor, focal: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [..., 2] of points [..., 3] in camera axes, and their derivative [..., 2, 3]."""
    z = places[..., 2].clamp(min=LEAST_DEPTH)
    flat = places[..., :2] / z[..., None]
    zero = torch.zeros_like(z)
    rows = [focal / z, zero, -focal * flat[..., 0] / z, zero, focal / z, -focal * flat[..., 1] / z]
    return focal * flat + center, torch.stack(rows, -1).reshape(*z.shape, 2, 3)


def predicted(state: State, seen: Observations) -> tuple[Tensor, Tensor, Tensor]:
    """Points of all sightings in the axes of their anchors' cameras and of their own, [M, 3] each, and turns [M, 3, 3]."""
    anchor = seen.anchor[seen.point]
    rays = torch.cat(
        [
            (seen.anchor_pixels - seen.center) / state.log_focal.exp(),
            torch.ones_like(seen.anchor_pixels[:, :1]),
        ],
        1,
    )
    there = (rays / state.log_inverse.exp()[:, None])[seen.point]
    first, second = state.poses[anchor], state.poses[seen.frame]
    turn = second[:, :3, :3] @ first[:, :3, :3].transpose(1, 2)
    shift = second[:, :3, 3] - (turn @ first[:, :3, 3:])[..., 0]
    return there, (turn @ there[..., None])[..., 0] + shift, turn


def residuals(state: State, seen: Observations) -> tuple[Tensor, Tensor]:
    """Reprojection errors [M, 2] in pixels, and log depths against the maps [M], NaN where a map has none."""
    _, here, _ = predicted(state, seen)
    pixels, _ = projection(here, state.log_focal.exp(), seen.center)
    fitted = state.depths(seen.depth, seen.frame, seen.is_disparity)
    return pixels - seen.pixels, here[:, 2].clamp(min=LEAST_DEPTH).log() - fitted.log()


def cauchy(squared: Tensor) -> Tensor:
    """Weights of Cauchy's kernel for squared errors in units of its width."""
    return 1 / (1 + squared)


def adjust(
    state: State,
    seen: Observations,
    width: float,
    iterations: int,
    *,
    weights: Tensor | None = None,
    solves_focal: bool = True,
    depth_sigma: float = DEPTH_SIGMA,
) -> tuple[State, float]:
    """Levenberg–Marquardt steps on all unknowns.

    Args:
        state: Start.
        seen: Sightings.
        width: Kernel width in pixels: errors beyond count less and less.
        iterations: Number of steps.
        weights: Trust in each point [N]; None: 1.
        solves_focal: Whether the focal length is free.
        depth_sigma: How far log depths of the maps are off.

    Returns:
        The better state, and its cost per sighting.
    """
    damping, cost = 1e-4, _cost(state, seen, width, weights, depth_sigma)
    for _ in range(iterations):
        system = _system(state, seen, width, weights, depth_sigma)
        improved = False
        for _ in range(4):
            candidate = _stepped(state, system, damping, solves_focal)
            reached = _cost(candidate, seen, width, weights, depth_sigma)
            if reached < cost:
                gain = (cost - reached) / max(cost, 1e-12)
                state, cost, damping, improved = candidate, reached, max(damping / 5, 1e-8), gain > 1e-5
                break
            damping *= 10
        if not improved:
            break
    return state, cost


def _cost(
    state: State, seen: Observations, width: float, weights: Tensor | None, depth_sigma: float
) -> float:
    pixel, depth = residuals(state, seen)
    trust = 1.0 if weights is None else weights[seen.point]
    errors = (pixel.square().sum(1) / width**2).log1p() * width**2
    found = torch.nan_to_num((depth / depth_sigma).square().log1p())
    prior = (state.shift / SHIFT_SIGMA).square().sum()
    return float(((errors + found) * trust).sum() + prior) / len(errors)


def _system(
    state: State, seen: Observations, width: float, weights: Tensor | None, depth_sigma: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Normal equations: H [P, P], g [P], W [N, P] (points × parameters), diagonal [N] and gradient [N] of the points."""
    frames, points = len(state.poses), len(seen.anchor)
    there, here, turn = predicted(state, seen)
    focal = state.log_focal.exp()
    pixel, to_pixel = projection(here, focal, seen.center)
    z = here[:, 2].clamp(min=LEAST_DEPTH)
    anchor = seen.anchor[seen.point]
    count = len(z)
    # derivatives of the point in its own camera: turn and shift of both poses, log focal, log inverse depth
    by_own = torch.cat([-skew(here), torch.eye(3).to(here).expand(count, 3, 3)], 2)
    by_anchor = torch.cat([turn @ skew(there), -turn], 2)
    sideways = there.clone()
    sideways[:, 2] = 0
    by_focal, by_inverse = -(turn @ sideways[..., None]), -(turn @ there[..., None])
    place = torch.cat([by_own, by_anchor, by_focal, by_inverse], 2)
    J = here.new_zeros(count, 3, 16)
    columns = [*range(12), 14, 15]
    J[:, :2, columns] = to_pixel @ place
    # the focal length also scales the image
    J[:, :2, 14] += pixel - seen.center
    J[:, 2:, columns] = place[:, 2:] / z[:, None, None]
    values = torch.nan_to_num(seen.depth, nan=1.0)
    fitted = state.depths(values, seen.frame, seen.is_disparity)
    scale = state.log_scale[seen.frame].exp()
    # d log depth / d fitted value: 1/depth, or −depth for disparities
    sign = fitted if seen.is_disparity else -1 / fitted
    J[:, 2, 12], J[:, 2, 13] = sign * scale * values, sign
    error = torch.cat([pixel - seen.pixels, (z.log() - fitted.log())[:, None]], 1)
    trust = torch.ones(count).to(z) if weights is None else weights[seen.point]
    w_pixel = trust * cauchy(error[:, :2].square().sum(1) / width**2)
    known = (~seen.depth.isnan()).to(z)
    w_depth = trust * known * cauchy((error[:, 2] / depth_sigma).square()) / depth_sigma**2
    weight = torch.stack([w_pixel, w_pixel, w_depth], 1)
    weighted = J * weight[..., None]
    blocks, gradients = J.transpose(1, 2) @ weighted, (weighted * error[..., None]).sum(1)
    # parameters: poses, scales, shifts, focal length
    index = torch.cat(
        [
            6 * seen.frame[:, None] + torch.arange(6),
            6 * anchor[:, None] + torch.arange(6),
            6 * frames + seen.frame[:, None],
            7 * frames + seen.frame[:, None],
            torch.full((count, 1), 8 * frames),
        ],
        1,
    )
    size = 8 * frames + 1
    H = torch.zeros(size * size).to(z)
    H.index_add_(0, (index[:, :, None] * size + index[:, None]).flatten(), blocks[:, :15, :15].flatten())
    g = torch.zeros(size).to(z).index_add_(0, index.flatten(), gradients[:, :15].flatten())
    W = torch.zeros(points * size).to(z)
    W.index_add_(0, (seen.point[:, None] * size + index).flatten(), blocks[:, :15, 15].flatten())
    diagonal = torch.zeros(points).to(z).index_add_(0, seen.point, blocks[:, 15, 15])
    slope = torch.zeros(points).to(z).index_add_(0, seen.point, gradients[:, 15])
    H = H.reshape(size, size)
    at = torch.arange(7 * frames, 8 * frames)
    H[at, at] += 1 / SHIFT_SIGMA**2
    g[at] += state.shift / SHIFT_SIGMA**2
    H[-1, -1] += 1 / FOCAL_SIGMA**2
    return H, g, W.reshape(points, size), diagonal, slope


def _stepped(
    state: State, system: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], damping: float, solves_focal: bool
) -> State:
    H, g, W, diagonal, slope = system
    frames = len(state.poses)
    held = torch.zeros(len(g), dtype=torch.bool)
    # the world is the first camera, its unit that of the first depth map
    held[:6], held[6 * frames] = True, True
    held[-1] = not solves_focal
    inverse = 1 / (diagonal * (1 + damping) + 1e-9)
    scaled = W * inverse[:, None]
    reduced = H + damping * torch.diag(H.diagonal() + 1e-6) - W.T @ scaled
    right = g - scaled.T @ slope
    free = (~held).nonzero().flatten()
    step = torch.zeros_like(g)
    step[free] = -torch.linalg.lstsq(reduced[free][:, free], right[free, None]).solution[:, 0]
    inner = -inverse * (slope + W @ step)
    return replace(
        state,
        poses=moved_poses(state.poses, step[: 6 * frames].reshape(frames, 6)),
        log_scale=state.log_scale + step[6 * frames : 7 * frames],
        shift=state.shift + step[7 * frames : 8 * frames],
        log_focal=state.log_focal + step[-1],
        log_inverse=state.log_inverse + inner.clamp(-1, 1),
    )
