"""What moves in a clip: where the flow is not the one that the camera's movement and the depth explain."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene.cameras import Cameras
from ...tracking.flow import sampled
from ...tracking.tracks import ClipFlow, pixel_centers
from .unproject import world_points

# frames over which motion is compared: slow things need several
GAPS = (3, 8)
# residual in pixels at a width of 160 that is motion, and the share of the displacement that depth errors explain
LEAST, SHARE = 0.9, 0.12
# window of the vote in pixels, and relative difference of depth within which neighbors vote
WINDOW, SURFACE = 7, 0.05
# window, rounds and least share of moving neighbors of the vote against rims
RIM, RIM_ROUNDS, RIM_SHARE = 13, 3, 0.6


def moving_masks(flow: ClipFlow, depth: Tensor, cameras: Cameras) -> Tensor:
    """Whether each pixel moves on its own, [T, H, W] bool.

    Args:
        flow: Flow of the clip.
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
    """
    frames, height, width = depth.shape
    start = pixel_centers(width, height, depth).reshape(-1, 2)
    unit = width / 160
    found: list[Tensor] = []
    for t in range(frames):
        votes, cast = torch.zeros(height * width), torch.zeros(height * width)
        known = ~depth[t].flatten().isnan()
        world = world_points(
            torch.nan_to_num(depth[t], nan=1.0).flatten().double(), cameras[t], start.double()
        )
        for way in (1, -1):
            place, seen = start, torch.ones(height * width, dtype=torch.bool)
            moves, judged = torch.zeros_like(seen), torch.zeros_like(seen)
            for gap in range(1, GAPS[-1] + 1):
                end = t + way * gap
                if not 0 <= end < frames:
                    break
                place, seen = flow.step(end - way, way, place, seen)
                if gap in GAPS:
                    valid = seen & known
                    moves |= valid & _is_own_motion(cameras, world, t, end, place, valid, unit)
                    judged |= valid
            votes, cast = votes + moves.float(), cast + judged.float()
        votes, cast = on_surface(torch.stack([votes, cast]).reshape(2, height, width), depth[t])
        found.append(votes / cast.clamp(min=1e-6) * (cast > 0))
    score = torch.stack(found)
    moves = _along_tracks(score, flow) > 0.5
    # flow spills over edges: a narrow rim of a surface that rests further out does not move
    for t in (t for t in range(frames) for _ in range(RIM_ROUNDS)):
        planes = torch.stack([moves[t].float(), torch.ones(height, width)])
        votes, cast = on_surface(planes, depth[t], RIM)
        moves[t] &= votes > RIM_SHARE * cast
    return moves


def _is_own_motion(
    cameras: Cameras, world: Tensor, start: int, end: int, place: Tensor, valid: Tensor, unit: float
) -> Tensor:
    """Whether points [P, 3] of frame `start`, found at `place` [P, 2] in frame `end`, did more than the camera explains."""
    if not bool(valid.any()):
        return valid
    rigid, z = cameras.project(world, end)
    rest, _ = cameras.project(world, start)
    residual = (place - rigid).norm(dim=1)
    # up to half of the image may move: the smaller residuals say how accurate flow and cameras are
    usual = float(residual[valid].kthvalue(max(1, int(0.35 * int(valid.sum())))).values)
    return (z > 0) & (residual > max(LEAST * unit, 5 * usual) + SHARE * (rigid - rest).norm(dim=1))


def on_surface(planes: Tensor, depth: Tensor, window: int = WINDOW) -> Tensor:
    """Sums of planes [C, H, W] over the window around each pixel, of pixels at about the same depth [H, W]."""
    reach = window // 2
    height, width = depth.shape
    around = torch.nn.functional.pad(planes, (reach,) * 4)
    deep = torch.nn.functional.pad(depth, (reach,) * 4, value=torch.nan)
    total = torch.zeros_like(planes)
    for i in range(window):
        for j in range(window):
            part = (slice(i, i + height), slice(j, j + width))
            near = (deep[part] - depth).abs() < SURFACE * depth
            total += around[:, part[0], part[1]] * near
    return total


def _along_tracks(score: Tensor, flow: ClipFlow) -> Tensor:
    """Scores [T, H, W] averaged with those of the same points one frame before and after."""
    frames, height, width = score.shape
    start = pixel_centers(width, height, score).reshape(-1, 2)
    total, count = score.clone(), torch.ones_like(score)
    for t in range(frames):
        for way in (1, -1):
            if not 0 <= t + way < frames:
                continue
            place, seen = flow.step(t, way, start, torch.ones(len(start), dtype=torch.bool))
            values = sampled(score[t + way][None, None], place[None])[0, :, 0] * seen
            total[t] += values.reshape(height, width)
            count[t] += seen.reshape(height, width).float()
    return total / count


def grown(masks: Tensor, pixels: int) -> Tensor:
    """Masks [T, H, W] bool, larger by some pixels."""
    if pixels <= 0:
        return masks
    planes = masks.float()[:, None]
    return torch.nn.functional.max_pool2d(planes, 2 * pixels + 1, 1, pixels)[:, 0] > 0
