"""Points followed through a clip: flow between neighboring frames, checked forward against backward, and chained."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from .flow import FlowConfig, optical_flow, sampled

# forward-backward check of Sundaram, Brox & Keutzer 2010: a share of the squared lengths, and squared pixels
CHECK_SHARE, CHECK_PIXELS = 0.01, 0.5
# pairs of frames per report of progress
PAIRS = 4


@dataclass(frozen=True, eq=False)
class ClipFlow:
    """Flow between the neighboring frames of a clip of T frames, both ways."""

    forward: Tensor  # [T−1, H, W, 2] pixels, from t to t+1
    backward: Tensor  # [T−1, H, W, 2] pixels, from t+1 to t
    forward_agrees: Tensor  # [T−1, H, W] bool: following forward and back returns to the pixel
    backward_agrees: Tensor  # [T−1, H, W] bool, in frame t+1

    @property
    def frames(self) -> int:
        return len(self.forward) + 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.forward.shape[2], self.forward.shape[1]

    def followed(self, frame: int, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Follow points through the whole clip, forward and backward from one frame.

        Args:
            frame: Frame in which the points are given.
            pixels: [P, 2]; (0, 0) is the outer corner of the top-left pixel.

        Returns:
            Pixels [T, P, 2] and visibility [T, P]. After the first failed check or outside the image a point is not
            visible any more; its pixels stay where they were seen last.
        """
        places = pixels.new_zeros(self.frames, len(pixels), 2)
        visible = torch.zeros(self.frames, len(pixels), dtype=torch.bool, device=pixels.device)
        places[frame], visible[frame] = pixels, True
        for way in (1, -1):
            for t in range(frame, self.frames - 1 if way > 0 else 0, way):
                places[t + way], visible[t + way] = self.step(t, way, places[t], visible[t])
        return places, visible

    def step(self, frame: int, way: int, pixels: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Follow points [P, 2] to the next frame (`way` 1) or the one before (−1): pixels and visibility [P]."""
        flow, agrees = (
            (self.forward[frame], self.forward_agrees[frame])
            if way > 0
            else (self.backward[frame - 1], self.backward_agrees[frame - 1])
        )
        found = torch.cat([flow, agrees[..., None].to(flow)], -1).permute(2, 0, 1)[None]
        values = sampled(found, pixels[None].to(flow))[0]
        place = pixels + values[:, :2].to(pixels)
        size = pixels.new_tensor(self.size)
        # all four pixels around the point have to agree: at an edge, two motions are mixed
        still = visible & (values[:, 2] > 0.99) & ((place > 0) & (place < size)).all(1)
        return torch.where(still[:, None], place, pixels), still


@dataclass(frozen=True, eq=False)
class ClipTracks:
    """N points over the T frames of one camera's clip; `engine.scene.Tracks` are those of a capture's views."""

    pixels: Tensor  # [T, N, 2]; (0, 0) is the outer corner of the top-left pixel
    visible: Tensor  # [T, N] bool
    anchors: Tensor  # [N] long: the frame in which each was chosen

    def __len__(self) -> int:
        return len(self.anchors)

    def take(self, index: Tensor) -> ClipTracks:
        """Selected tracks: bool [N] or long [M]."""
        return ClipTracks(self.pixels[:, index], self.visible[:, index], self.anchors[index])


def clip_flow(images: Tensor, config: FlowConfig = FlowConfig()) -> Generator[int, None, ClipFlow]:
    """Flow between the neighboring frames of a clip.

    Args:
        images: Frames [T, H, W, 3] in 0..1.
        config: Work per pyramid level.

    Yields:
        Number of finished pairs of frames.

    Returns:
        Flow both ways with its forward-backward check.
    """
    ahead: list[Tensor] = []
    back: list[Tensor] = []
    for start in range(0, len(images) - 1, PAIRS):
        a = images[start : min(start + PAIRS, len(images) - 1)]
        b = images[start + 1 : start + 1 + len(a)]
        ahead.append(optical_flow(a, b, config))
        back.append(optical_flow(b, a, config))
        yield start + len(a)
    forward, backward = torch.cat(ahead), torch.cat(back)
    return ClipFlow(forward, backward, returns(forward, backward), returns(backward, forward))


def returns(there: Tensor, back: Tensor) -> Tensor:
    """Whether the flow `there` [B, H, W, 2] followed by `back` ends where it began, [B, H, W] bool."""
    count, height, width = there.shape[:3]
    start = pixel_centers(width, height, there)
    place = start + there
    found = sampled(back.permute(0, 3, 1, 2), place.reshape(count, -1, 2)).reshape(there.shape)
    lengths = (there * there).sum(-1) + (found * found).sum(-1)
    inside = ((place > 0) & (place < there.new_tensor([width, height]))).all(-1)
    return inside & ((there + found).square().sum(-1) < CHECK_SHARE * lengths + CHECK_PIXELS)


def pixel_centers(width: int, height: int, like: Tensor) -> Tensor:
    """[H, W, 2] with the device and type of `like`."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([xs, ys], -1).to(like) + 0.5


def grid_tracks(flow: ClipFlow, images: Tensor, spacing: int, every: int, least: int = 3) -> ClipTracks:
    """Tracks of the best textured pixel in each cell of a grid, begun anew every few frames.

    Args:
        flow: Flow of the clip.
        images: Its frames [T, H, W, 3].
        spacing: Side of a cell in pixels.
        every: Frames between two beginnings; the last frame always begins some.
        least: Tracks that are visible in fewer frames are left out.
    """
    begins = sorted({*range(0, flow.frames, every), flow.frames - 1})
    parts: list[ClipTracks] = []
    for frame in begins:
        pixels = _corners(images[frame], spacing)
        places, visible = flow.followed(frame, pixels)
        part = ClipTracks(places, visible, torch.full((len(pixels),), frame))
        parts.append(part.take(visible.sum(0) >= least))
    return ClipTracks(
        torch.cat([p.pixels for p in parts], 1),
        torch.cat([p.visible for p in parts], 1),
        torch.cat([p.anchors for p in parts]),
    )


def _corners(image: Tensor, spacing: int) -> Tensor:
    """The pixel [P, 2] of each cell whose surroundings differ most in their weakest direction (Shi & Tomasi 1994)."""
    gray = image.float().mean(-1)
    dy, dx = torch.gradient(gray)
    products = torch.stack([dx * dx, dy * dy, dx * dy])[:, None]
    xx, yy, xy = torch.nn.functional.avg_pool2d(products, 5, 1, 2, count_include_pad=False)[:, 0]
    weakest = (xx + yy) / 2 - (((xx - yy) / 2).square() + xy * xy).sqrt()
    # motion at the border is uncertain
    edge = torch.zeros_like(weakest)
    edge[2:-2, 2:-2] = 1
    best, index = torch.nn.functional.max_pool2d(
        (weakest * edge)[None, None], spacing, return_indices=True, ceil_mode=True
    )
    index = index.flatten()[best.flatten() > 1e-7]
    width = image.shape[1]
    return torch.stack([index % width, index // width], 1).to(gray) + 0.5
