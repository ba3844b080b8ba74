"""Where the Gaussians of a video's frames are in its other frames: what a reconstruction model with correspondences "flow"
reads, found by the tracker, without network weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..messages import returned
from ..tracking.tracks import clip_flow


@torch.no_grad()
def video_flow(video: Tensor, time_stride: int = 1, space_stride: int = 1, skip: int = 1) -> Tensor:
    """Follow the middle of each cell of every n-th frame through the whole video.

    Args:
        video: Frames [T, H, W, 3] in 0..1.
        time_stride: Every n-th frame gives Gaussians: A of them.
        space_stride: Pixels along each side of a cell.
        skip: Every n-th cell of a row and of a column gives one.

    Returns:
        [A, T, h, w, 3]: (x, y) in 0..1, and 1 where the point was followed, 0 from where it was lost (its place is then the
        last one).
    """
    flow = returned(clip_flow(video[..., :3].float()))
    width, height = flow.size
    x, y = (
        (torch.arange(0, size // space_stride, skip, device=video.device) + 0.5) * space_stride
        for size in (width, height)
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    start = torch.stack([columns, rows], dim=-1).reshape(-1, 2).float()
    found: list[Tensor] = []
    for frame in range(0, flow.frames, time_stride):
        pixels, visible = flow.followed(frame, start)
        places = pixels / pixels.new_tensor([width, height])
        found.append(torch.cat([places, visible[..., None].to(places)], dim=-1))
    return torch.stack(found).unflatten(2, rows.shape)
