"""What was there only for a while: surface points in whose place other frames see something farther away.

A foot that stands still between two steps moves in no pair of neighboring frames, but the floor behind it shows before and
after. And a surface that all frames show around such a thing stays, although the flow of the thing spills over to it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...scene.cameras import Cameras
from ...tracking.tracks import pixel_centers
from .moving_masks import grown, on_surface
from .seen_points import seen_points
from .unproject import depth_edges, world_points

# frames that are asked about a point
ASKED = 12
# relative depth by which all pixels around a point have to be farther for it to be gone: within these bounds, a multiple of
# what depth maps usually differ by
FARTHER, USUAL = (0.02, 0.06), 10.0
# relative difference of depth that is none
SAME = 0.03
# share of the frames that see its place, and number of frames, in which a point has to be gone
SHARE, LEAST = 0.25, 2
# share of the frames that are asked in which what stays is seen, and how far flow spills as a share of the width
STAYS, SPILL = 0.6, 0.04


class Presence(NamedTuple):
    """What other frames show in the place of each pixel's surface, [T, H, W] bool each."""

    gone: Tensor  # something farther away
    stays: Tensor  # the same surface, in most frames


def corrected(moving: Tensor, depth: Tensor, cameras: Cameras, agreement: float | None = None) -> Tensor:
    """Masks of what moves, with what is seen through added and rims that stay taken away.

    Args:
        moving: What moves by its flow, [T, H, W] bool.
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
        agreement: Median relative difference of a point's depth between frames; None: unknown.
    """
    gone, stays = presence(depth, cameras, agreement)
    reach = max(2, round(SPILL * depth.shape[2]))
    # elsewhere, a surface that stays may still turn or flow in place
    return (moving & ~(stays & grown(gone, reach) & ~gone)) | gone


def presence(depth: Tensor, cameras: Cameras, agreement: float | None = None) -> Presence:
    """What other frames show in the place of each pixel's surface.

    Args:
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
        agreement: Median relative difference of a point's depth between frames; None: unknown.
    """
    farther = FARTHER[1] if agreement is None else min(max(USUAL * agreement, FARTHER[0]), FARTHER[1])
    frames, height, width = depth.shape
    start = pixel_centers(width, height, depth).reshape(-1, 2)
    asked = torch.linspace(0, frames - 1, min(frames, ASKED)).round().long().unique().tolist()
    # the nearest depth around each pixel; unknown depth says nothing
    filled = torch.nan_to_num(depth, nan=0.0)
    nearest = -F.max_pool2d(-filled[:, None], 3, 1, 1)[:, 0]
    edges = depth_edges(depth)
    found: list[Tensor] = []
    steady: list[Tensor] = []
    for t in range(frames):
        known = ~edges[t].flatten()
        points = world_points(torch.nan_to_num(depth[t], nan=1.0).flatten(), cameras[t], start)
        gone, there = torch.zeros(len(points)), torch.zeros(len(points))
        for other in (s for s in asked if s != t):
            at = seen_points(points, depth[other], cameras[other])
            around = nearest[other][at.row, at.column]
            gone += (at.inside & (around > (1 + farther) * at.z)).float()
            there += at.agree(SAME).float()
        absent = known & (gone >= LEAST) & (gone > SHARE * (gone + there))
        planes = torch.stack([absent, known]).float().reshape(2, height, width)
        votes, cast = on_surface(planes, depth[t])
        found.append((votes > 0.5 * cast) & (cast > 0))
        steady.append(((gone == 0) & (there >= STAYS * len(asked))).reshape(height, width))
    return Presence(torch.stack(found), torch.stack(steady))
