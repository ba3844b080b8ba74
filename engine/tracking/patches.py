"""Keeps tracks from drifting: each step is corrected against the patch where the track began.

Source: affine registration of Shi & Tomasi 1994 (Lucas & Kanade 1981), started from dense flow. What differs: gain and
brightness are taken out of the patches, and a track ends where its patch no longer correlates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .flow import sampled
from .tracks import ClipFlow, ClipTracks

# patch of 2·REACH+1 pixels, and Gauss–Newton steps per frame
REACH, STEPS = 4, 5
# correlation with the first patch below which a track ends
LEAST_CORRELATION = 0.8
# most pixels by which a step may correct the flow
MOST_CORRECTION = 3.0
# of the affine part: a patch has little to say about it
DAMPING = 0.02


def registered(flow: ClipFlow, images: Tensor, tracks: ClipTracks) -> ClipTracks:
    """The same points followed again, with each step corrected against the first patch.

    Args:
        flow: Flow of the clip.
        images: Its frames [T, H, W, 3] in 0..1.
        tracks: Points and the frames where they begin.
    """
    gray = images.float().mean(-1)
    dy, dx = torch.gradient(gray, dim=(1, 2))
    planes = torch.stack([gray, dx, dy], 1)
    pixels, visible = tracks.pixels.clone(), torch.zeros_like(tracks.visible)
    for frame in tracks.anchors.unique().tolist():
        index = (tracks.anchors == frame).nonzero().flatten()
        start = tracks.pixels[frame, index].float()
        visible[frame, index] = True
        for way in (1, -1):
            walked = _walked(flow, planes, frame, start, way)
            for t, place, seen in walked:
                pixels[t, index], visible[t, index] = place.to(pixels), seen
    return ClipTracks(pixels, visible, tracks.anchors)


def _walked(
    flow: ClipFlow, planes: Tensor, frame: int, start: Tensor, way: int
) -> list[tuple[int, Tensor, Tensor]]:
    """Frames with pixels [P, 2] and visibility [P], outward from `frame` in one direction."""
    offsets = torch.cartesian_prod(*[torch.arange(-REACH, REACH + 1)] * 2).to(start)
    first = _normal(
        _patch(planes[frame], start, offsets, torch.eye(2).to(start).expand(len(start), 2, 2))[..., 0]
    )
    shape = torch.eye(2).to(start).repeat(len(start), 1, 1)
    place, seen = start, torch.ones(len(start), dtype=torch.bool)
    found: list[tuple[int, Tensor, Tensor]] = []
    last = flow.frames - 1 if way > 0 else 0
    for t in range(frame, last, way):
        if not bool(seen.any()):
            break
        ahead, kept = flow.step(t, way, place, seen)
        place, shape, correlation = _registered(planes[t + way], first, ahead, shape, offsets)
        seen = kept & (correlation > LEAST_CORRELATION) & ((place - ahead).norm(dim=1) < MOST_CORRECTION)
        size = place.new_tensor(flow.size)
        seen &= ((place > 0) & (place < size)).all(1)
        found.append((t + way, place, seen))
    return found


def _patch(planes: Tensor, place: Tensor, offsets: Tensor, shape: Tensor) -> Tensor:
    """[P, patch, C] of planes [C, H, W] at places [P, 2] with affine shapes [P, 2, 2]."""
    points = place[:, None] + offsets @ shape.transpose(1, 2)
    return sampled(planes[None], points.reshape(1, -1, 2))[0].reshape(len(place), len(offsets), -1)


def _normal(values: Tensor) -> Tensor:
    """Patches [P, patch] without mean and with length 1."""
    values = values - values.mean(1, keepdim=True)
    return values / values.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _registered(
    planes: Tensor, first: Tensor, place: Tensor, shape: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Place, shape and correlation with the patches `first` after Gauss–Newton steps."""
    scaled = offsets / REACH
    for _ in range(STEPS):
        patch = _patch(planes, place, offsets, shape)
        values = patch[..., 0] - patch[..., 0].mean(1, keepdim=True)
        gain = (values * first).sum(1, keepdim=True).clamp(min=1e-6)
        error = values - gain * first
        # derivatives by place, and by the shape in units of the patch's half side
        slopes = patch[..., 1:] - patch[..., 1:].mean(1, keepdim=True)
        J = torch.cat([slopes, patch[..., 1:] * scaled[:, :1], patch[..., 1:] * scaled[:, 1:]], -1)
        H = J.transpose(1, 2) @ J
        trace = H.diagonal(dim1=1, dim2=2).sum(1)
        weights = H.new_tensor([1e-4, 1e-4, DAMPING, DAMPING, DAMPING, DAMPING])
        H = H + (trace[:, None] * weights).diag_embed() + 1e-9 * torch.eye(6).to(H)
        step = -torch.linalg.solve(H, J.transpose(1, 2) @ error[..., None])[..., 0]
        step = step.clamp(-1, 1)
        place = place + step[:, :2]
        shape = shape + step[:, 2:].reshape(-1, 2, 2).transpose(1, 2) / REACH
    values = _normal(_patch(planes, place, offsets, shape)[..., 0])
    return place, shape, (values * first).sum(1)
