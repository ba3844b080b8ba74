"""First guesses for the adjustment of a clip's cameras: a pose from known points (RANSAC), and a depth map's scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor

from .clip_adjustment import cauchy, moved_poses, projection, skew

# random minimal sets per frame, points in each, and Gauss–Newton steps for each
SETS, POINTS, STEPS = 96, 6, 6
# sets are drawn with this seed: the same clip always gives the same cameras
SEED = 0
FEWEST = 12


def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Robust y = exp(a)·x + b for values [P], as (a, b)."""
    weight = torch.ones_like(x)
    slope, offset = (y.median() / x.median()).abs().clamp(min=1e-3), torch.zeros_like(x[0])
    for _ in range(20):
        mean_x, mean_y = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        spread = (weight * (x - mean_x).square()).sum().clamp(min=1e-12)
        found = (weight * (x - mean_x) * (y - mean_y)).sum() / spread
        if found > 1e-3:
            slope = found
        offset = mean_y - slope * mean_x
        error = (y - slope * x - offset).abs()
        weight = cauchy((error / (1.5 * error.median()).clamp(min=1e-6)).square())
    return slope.log(), offset


def pose_from_points(
    points: Tensor, pixels: Tensor, near: Tensor, focal: Tensor, center: Tensor, width: float
) -> tuple[Tensor, Tensor]:
    """The pose of a camera that sees known points, robust to a part of them that moves.

    Args:
        points: World points [P, 3].
        pixels: Where they are seen [P, 2].
        near: Pose [4, 4] of a camera nearby, world_to_camera.
        focal: Focal length in pixels.
        center: Principal point [2].
        width: Error in pixels up to which a point supports a pose.

    Returns:
        world_to_camera [4, 4], and each point's error in pixels [P].
    """
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.rand(SETS, len(points), generator=generator).argsort(1)[:, : min(POINTS, len(points))]
    poses = near.expand(SETS, 4, 4)
    poses = _fitted(points[chosen], pixels[chosen], poses, focal, center, STEPS, None)
    # the pose nearby is a candidate too
    poses = torch.cat([near[None], poses])
    errors = _errors(points.expand(len(poses), -1, 3), pixels, poses, focal, center)
    best = int((errors / width).square().clamp(max=1).sum(1).argmin())
    pose = poses[best : best + 1]
    for kernel in (2 * width, width):
        pose = _fitted(points[None], pixels[None], pose, focal, center, 5, kernel)
    return pose[0], _errors(points[None], pixels, pose, focal, center)[0]


def _in_camera(points: Tensor, poses: Tensor) -> Tensor:
    return points @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]


def _errors(points: Tensor, pixels: Tensor, poses: Tensor, focal: Tensor, center: Tensor) -> Tensor:
    return torch.nan_to_num(
        (projection(_in_camera(points, poses), focal, center)[0] - pixels).norm(dim=-1), 1e6
    )


def _fitted(
    points: Tensor,
    pixels: Tensor,
    poses: Tensor,
    focal: Tensor,
    center: Tensor,
    steps: int,
    kernel: float | None,
) -> Tensor:
    """Gauss–Newton on poses [B, 4, 4] for points [B, P, 3] seen at pixels [B, P, 2]."""
    eye = torch.eye(3).to(points)
    for _ in range(steps):
        here = _in_camera(points, poses)
        found, to_pixel = projection(here, focal, center)
        J = to_pixel @ torch.cat([-skew(here), eye.expand(*here.shape[:2], 3, 3)], -1)
        error = found - pixels
        weight = torch.ones_like(error[..., :1])
        if kernel is not None:
            weight = cauchy(error.square().sum(-1, keepdim=True) / kernel**2)
        weighted = J * weight[..., None]
        H = (weighted.transpose(-1, -2) @ J).sum(1)
        g = (weighted.transpose(-1, -2) @ error[..., None]).sum(1)
        damping = 1e-6 * H.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(6).to(H)
        step = -torch.linalg.lstsq(H + damping, g).solution[..., 0]
        poses = moved_poses(poses, torch.nan_to_num(step).clamp(-0.5, 0.5))
    return poses
