"""Square crops around the subject of images, as image-to-3D models expect them.

Source: TRELLIS (Xiang et al., CVPR 2025) and GVFDiffusion (Zhang et al., ICCV 2025), released code: the box of alpha above
0.8, a square of 1.2 times its longer side, Lanczos resampling of premultiplied colors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError

# alpha above which a pixel belongs to the subject, and side of the square as a multiple of the subject's longer side
THRESHOLD, MARGIN = 0.8, 1.2
# ratio of two sizes up to which a mask is resized to its image
ASPECT_TOLERANCE = 0.05
WHITE = (1.0, 1.0, 1.0)


class Square(NamedTuple):
    """A square of pixels; it may reach out of the image."""

    left: int
    top: int
    side: int


class Crops(NamedTuple):
    """Square images of a subject."""

    images: Tensor  # [F, S, S, 3] in 0..1, over the background
    alphas: Tensor  # [F, S, S] in 0..1


def alphas_of(images: Tensor, masks: Tensor | None = None) -> Tensor:
    """Coverage of the subject in images.

    Args:
        images: [F, H, W, 3], or [F, H, W, 4] with alpha.
        masks: [F, H, W] or [1, H, W], 1 on the subject, of the images' aspect ratio; None: the images' alpha.

    Returns:
        [F, H, W] in 0..1.

    Raises:
        InputError: Neither masks nor alpha, or masks of another number or aspect ratio.
    """
    count, height, width = images.shape[:3]
    if masks is None:
        if images.shape[-1] < 4:
            raise InputError(
                "MSK-023",
                "The image has no alpha channel, so its subject cannot be told from the background; connect a mask, such as "
                "that of Segment by Text.",
            )
        return images[..., 3].float().clamp(0, 1)
    if len(masks) not in (1, count):
        raise InputError(
            "MSK-024", f"There are {len(masks)} masks for {count} images; connect one mask per image, or one."
        )
    tall, wide = masks.shape[-2:]
    if abs(wide / tall / (width / height) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            "MSK-025",
            f"The mask is {wide}×{tall} and the image {width}×{height}, which is another aspect ratio; make the mask from the "
            "same image.",
        )
    fitted = masks[:, None].float()
    if (tall, wide) != (height, width):
        fitted = torch.nn.functional.interpolate(
            fitted, (height, width), mode="bilinear", antialias=True, align_corners=False
        )
    return fitted[:, 0].nan_to_num().clamp(0, 1).expand(count, -1, -1)


def foreground(alpha: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """The pixels [H, W] (bool) of the subject of one image.

    Args:
        alpha: Coverage [H, W] in 0..1.
        threshold: Alpha above which a pixel belongs to the subject.

    Raises:
        InputError: No pixel belongs to the subject, or the corners of the image do.
    """
    inside = alpha > threshold
    if not bool(inside.any()):
        raise InputError(
            "MSK-026",
            f"The image has no foreground: no pixel of its mask or alpha is above {threshold:g}. Connect another mask, or "
            "choose a frame that shows the subject.",
        )
    if bool(inside[[0, 0, -1, -1], [0, -1, 0, -1]].all()):
        raise InputError(
            "MSK-027",
            "The foreground covers all four corners of the image: the mask marks the background, or nothing was cut out. "
            "Invert the mask (that of Load Image marks what is transparent), or make one with Segment by Text.",
        )
    return inside


def foreground_square(alpha: Tensor, threshold: float = THRESHOLD, margin: float = MARGIN) -> Square:
    """The square around the subject of one image; arguments and errors as for `foreground` and `square_around`."""
    return square_around(foreground(alpha, threshold), margin)


def square_around(inside: Tensor, margin: float = MARGIN) -> Square:
    """The square around the pixels [H, W] of a subject, of which there is at least one.

    Args:
        inside: The subject's pixels.
        margin: Side of the square as a multiple of the subject's longer side.
    """
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    top, bottom, left, right = (int(x) for x in (rows[0], rows[-1], columns[0], columns[-1]))
    side = max(int(margin * max(right - left, bottom - top)), 2)
    half = side // 2
    return Square(round((left + right) / 2 - half), round((top + bottom) / 2 - half), 2 * half)


def square_crops(
    images: Tensor,
    alphas: Tensor,
    square: Square,
    pixels: int,
    canvas: int = 0,
    background: tuple[float, float, float] = WHITE,
) -> Crops:
    """Cut the same square out of all images and put the subject on a plain background.

    Args:
        images: [F, H, W, 3 or more] in 0..1, not premultiplied; a fourth channel is ignored.
        alphas: Coverage of the subject [F, H, W] in 0..1.
        square: What is cut out, from `foreground_square`; outside of the image there is nothing.
        pixels: Side of the square after resampling.
        canvas: Side of the images, with the square in their middle; 0: `pixels`. TRELLIS takes 518 pixels without a canvas on
            black, GVFDiffusion 380 on a white canvas of 512.
        background: Color in 0..1.
    """
    size = canvas or pixels
    left, top, side = square
    height, width = images.shape[1:3]
    first = (size - pixels) // 2
    place = slice(first, first + pixels)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    crops = torch.zeros(len(images), size, size, 4)
    for image, alpha, crop in zip(images, alphas, crops, strict=True):
        cut = torch.zeros(side, side, 4)
        seen = torch.cat([image[..., :3].float().cpu(), torch.ones(height, width, 1)], dim=-1)
        seen = seen * alpha.float().cpu()[..., None]
        cut[y0 - top : y1 - top, x0 - left : x1 - left] = seen[y0:y1, x0:x1]
        crop[place, place] = _resampled(cut, pixels)
    alpha = crops[..., 3]
    # the filter overshoots where colors end at an edge
    over = torch.minimum(crops[..., :3], alpha[..., None]) + (1 - alpha)[..., None] * torch.tensor(background)
    return Crops(over.clamp(0, 1), alpha)


def _resampled(image: Tensor, pixels: int) -> Tensor:
    """[S, S, C] to [pixels, pixels, C] with Lanczos; clamped after rows and after columns, as Pillow does with bytes."""
    if len(image) == pixels:
        return image
    for size in ((pixels, len(image)), (pixels, pixels)):
        planes = [
            np.asarray(Image.fromarray(plane.numpy()).resize(size, Image.Resampling.LANCZOS))
            for plane in image.permute(2, 0, 1).contiguous()
        ]
        image = torch.from_numpy(np.stack(planes, axis=-1)).clamp(0, 1)
    return image
