"""Frames of a video as the image encoders of a variation field take them: the subject on white, where the splat is.

Source: GVFDiffusion (Zhang et al., ICCV 2025), released code, for the published model; smaller models that project anchors
into the images need the subject where the splat's render is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..finite import is_finite
from ..render import choose, render_gaussians
from ..scene import Cameras, Gaussians
from .background_key import TOLERANCE, background_of
from .foreground import Square, alphas_of, foreground, foreground_square, square_crops

# frames of a video: longer ones take hours and gigabytes
MOST_FRAMES = 1000
# sides of GVFDiffusion's crop and of the canvas around it
CROP, CANVAS = 380, 512
# coverage from which a pixel belongs to the subject
INSIDE = 0.5
# share of the border's pixels with one color from which a background is plain; Prepare Video takes less, and says so
PLAIN = 0.9
# pixels of the encoder by which subject and splat may be apart before the video is cropped anew
CLOSE = 1.0


@dataclass(frozen=True, eq=False)
class Frames:
    """Square frames of the subject on white.

    Args:
        images: [T, S, S, 3] in 0..1.
        empty: Frames that do not show the subject.
        note: What was changed; empty where nothing was.
    """

    images: Tensor
    empty: tuple[int, ...]
    note: str = ""


def coverage(images: Tensor, masks: Tensor | None) -> Tensor:
    """Coverage [T, H, W] of the subject in the frames of a video.

    Args:
        images: [T, H, W, 3 or 4] in 0..1.
        masks: [T, H, W] or [1, H, W], 1 on the subject; None: the images' alpha, or what differs from a plain background.

    Raises:
        InputError: One frame, too many, NaN, masks that do not fit, or nothing tells the subject from the background.
    """
    count = len(images)
    if not 2 <= count <= MOST_FRAMES:
        what = (
            "1 frame, and motion needs at least 2"
            if count < 2
            else f"{count:,} frames; {MOST_FRAMES:,} is the limit"
        )
        raise InputError(
            "GEN-010",
            f"The video has {what}. "
            + ("Connect a video." if count < 2 else "Use every n-th frame, or a part of it."),
        )
    if not is_finite(images):
        raise InputError("GEN-011", "The video contains NaN or infinite values; load or make it again.")
    if masks is not None or images.shape[-1] > 3:
        return alphas_of(images, masks)
    background = background_of(images)
    if background.share < PLAIN:
        # raises: there is neither a mask nor alpha
        return alphas_of(images)
    return ((images - background.color).abs().amax(dim=-1) > TOLERANCE).float()


def cropped_frames(images: Tensor, alphas: Tensor) -> Frames:
    """Frames as the published model takes them: a box around the subject of frame 0, on a white canvas of 512 pixels.

    Args:
        images: [T, H, W, 3 or more] in 0..1.
        alphas: Coverage [T, H, W].

    Raises:
        InputError: Frame 0 does not show the subject.
    """
    crops = square_crops(images, alphas, foreground_square(alphas[0]), CROP, CANVAS)
    return Frames(crops.images, _empty(crops.alphas))


def frames_over_splat(images: Tensor, alphas: Tensor, splat: Gaussians, camera: Cameras) -> Frames:
    """Frames in which the subject of frame 0 lies where the splat is, as seen by the model's camera.

    Args:
        images: [T, H, W, 3 or more] in 0..1.
        alphas: Coverage [T, H, W].
        splat: The canonical Gaussians, in the model's frame.
        camera: The camera that the model assumes, one view.

    Raises:
        InputError: Frame 0 does not show the subject, or the camera does not see the splat.
    """
    foreground(alphas[0], INSIDE)
    width = camera.sizes[0][0]
    with torch.no_grad():
        seen = render_gaussians(splat, camera, choose("auto", splat.device)).alpha[0].cpu()
    if not bool((seen > INSIDE).any()):
        raise InputError(
            "GEN-012",
            "The splat is not visible from the front: its Gaussians are too small or transparent. Check it in Preview 4D Scene.",
        )
    wanted, found = _box(seen), _box(alphas[0])
    factor = float((wanted[1] - wanted[0]).max() / (found[1] - found[0]).max())
    # pixels of the video in one of the encoder's, and the corner of what the encoder sees
    side = width / factor
    corner = found.mean(0) - wanted.mean(0) / factor
    rows, columns = alphas.shape[1:]
    is_square = rows == columns
    fits = is_square and float((found * (width / columns) - wanted).abs().max()) <= CLOSE
    square = (
        Square(0, 0, columns)
        if fits
        else Square(round(float(corner[0])), round(float(corner[1])), max(round(side), 2))
    )
    crops = square_crops(images, alphas, square, width)
    note = (
        ""
        if fits
        else f"the video was cropped to {square.side} pixels, so that its subject lies over the splat"
    )
    return Frames(crops.images, _empty(crops.alphas), note)


def _box(alpha: Tensor) -> Tensor:
    """Corners [2, 2] (x, y) in pixels of what is covered."""
    inside = alpha > INSIDE
    ys, xs = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    return torch.tensor([[xs[0], ys[0]], [xs[-1] + 1, ys[-1] + 1]], dtype=torch.float64)


def _empty(alphas: Tensor) -> tuple[int, ...]:
    return tuple((alphas.flatten(1).amax(dim=1) <= INSIDE).nonzero().flatten().tolist())
