"""Cut a subject out from a plain background: its color from the frames' borders, soft coverage, and colors without it.

A pixel on the subject's edge mixes both colors, C = αF + (1 − α)B. B is the same everywhere, F is taken from the nearest
pixel that the subject covers fully, and α is the projection of C − B onto F − B (Smith and Blinn, SIGGRAPH 1996, with a
local F).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .subjects import image_measures

# largest difference of a channel from the background's color in its border, and share of the border that must be within it
TOLERANCE, SHARE = 0.06, 0.6
# differences that are noise: at least, and as a multiple of the border's own
LEAST_NOISE, NOISE = 3 / 255, 1.5
# distance from the background in pixels from which a pixel is covered fully, and radius in which thin parts are
SOLID, THIN = 2.5, 2
# area of holes that are filled, as a share of the subject's: highlights and teeth in the background's color
HOLE = 0.003
# pixels around the subject that are looked at
FRAME = 4


@dataclass(frozen=True, eq=False)
class Background:
    """The color of a border.

    Args:
        color: [3] in 0..1.
        share: Of the border's pixels that have this color.
        noise: Difference of a channel up to which a pixel is background.
    """

    color: Tensor
    share: float
    noise: float

    @property
    def is_plain(self) -> bool:
        return self.share >= SHARE

    @property
    def hex(self) -> str:
        return "#" + "".join(f"{round(float(c) * 255):02x}" for c in self.color)


def background_of(images: Tensor) -> Background:
    """The most common color of the borders of all frames [F, H, W, 3] in 0..1."""
    height, width = images.shape[1:3]
    band = max(1, min(height, width) // 100)
    sides = (images[:, :band], images[:, -band:], images[:, :, :band], images[:, :, -band:])
    border = torch.cat([side[..., :3].reshape(-1, 3).float() for side in sides])
    border = border[:: max(1, len(border) // 500_000)]
    # the subject may cover a part of the border: the median of the most common of coarse colors
    coarse = (border * 15.999).floor() @ border.new_tensor([1.0, 16.0, 256.0])
    common = border[coarse == coarse.mode().values].median(dim=0).values
    near = (border - common).abs().amax(-1) <= TOLERANCE
    color = border[near].median(dim=0).values
    apart = (border - color).abs().amax(-1)
    near = apart <= TOLERANCE
    noise = NOISE * float(apart[near].quantile(0.99)) if bool(near.any()) else 0.0
    return Background(color, float(near.float().mean()), max(noise, LEAST_NOISE))


def keyed(
    images: Tensor, background: Background | None = None
) -> Generator[int, None, tuple[Tensor, Tensor]]:
    """Cut the subject out from a plain background.

    Args:
        images: [F, H, W, 3] in 0..1.
        background: Its color; None: estimated from the borders.

    Yields:
        Finished frames.

    Returns:
        Coverage [F, H, W] in 0..1, and images [F, H, W, 3] without the background's color in soft edges. Shadows on the
        background count as subject; parts in the background's color become holes, of which the smallest are filled.

    Raises:
        InputError: The border is not plain.

    Source:
        Smith and Blinn, "Blue Screen Matting", SIGGRAPH 1996, equation 1.
    """
    found = background_of(images) if background is None else background
    if not found.is_plain:
        raise InputError(
            "MSK-028",
            f"The background is not plain: only {found.share:.0%} of the frames' border is near its most common color "
            f"{found.hex}. Connect a mask, such as that of Segment by Text, or set matte to 'person' for people.",
        )
    color = found.color.numpy().astype(np.float32)
    alphas, cleaned = torch.zeros(images.shape[:3]), images[..., :3].float().clone()
    for i, image in enumerate(images):
        pixels = image[..., :3].float().numpy()
        touched = np.abs(pixels - color).max(-1) > found.noise
        rows, columns = touched.any(1).nonzero()[0], touched.any(0).nonzero()[0]
        if len(rows):
            # with a frame of background, so that holes end
            place = (
                slice(max(rows[0] - FRAME, 0), rows[-1] + 1 + FRAME),
                slice(max(columns[0] - FRAME, 0), columns[-1] + 1 + FRAME),
            )
            alpha, own = _unmixed(pixels[place], touched[place], color, found.noise)
            alphas[i][place], cleaned[i][place] = torch.from_numpy(alpha), torch.from_numpy(own)
        yield i + 1
    return alphas, cleaned


def _unmixed(
    image: np.ndarray, touched: np.ndarray, color: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage [H, W] and the subject's own colors [H, W, 3] of one image."""
    ndimage = image_measures()
    difference = image - color
    apart = np.abs(difference).max(-1)
    touched = _filled(touched)
    depth = ndimage.distance_transform_edt(touched)
    peaks = (apart >= ndimage.maximum_filter(apart, 2 * THIN + 1)) & (apart > 4 * noise)
    solid = touched & ((depth > SOLID) | peaks)
    if not solid.any():
        solid = touched
    rows, columns = ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
    inner = image[rows, columns]
    span = inner - color
    length = (span**2).sum(-1)
    share = (difference * span).sum(-1) / np.maximum(length, 1e-6)
    alpha = np.where(solid | (length < noise**2), 1.0, share.clip(0, 1)) * touched
    mixed = (alpha > 0) & (alpha < 1)
    own = color + difference / np.maximum(alpha, 0.1)[..., None]
    # where little of the subject is left, its color is the neighbor's
    own = np.where(alpha[..., None] > 0.3, own, inner)
    foreground = np.where(mixed[..., None], own.clip(0, 1), image)
    return alpha.astype(np.float32), foreground.astype(np.float32)


def _filled(touched: np.ndarray) -> np.ndarray:
    """The mask with its smallest holes filled."""
    holes, count = image_measures().label(~touched)
    if count < 2:
        return touched
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = sizes <= HOLE * touched.sum()
    # what reaches the border is not a hole
    edge = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    small[edge] = False
    small[0] = False
    return touched | small[holes]
