"""Masks of people in a video by the bundled matting network (MediaPipe Selfie Segmentation).

The network sees 256 × 256 pixels. Where the person is small, two more passes look at the person alone: one square per frame,
all of the same size, that follows the person. Masks are not smoothed over time, which measured worse (see the model's card).
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..models.person_matting import PIXELS, PersonMatting, load_person_matting
from .foreground import Square
from .subjects import INSIDE, largest_subject

# side of the person's square as a multiple of the person's longer side
MARGIN = 1.2
# frames at once
BATCH = 8
# side of the person's square, relative to the image's longer side, below which the person is looked at alone
CLOSE = 0.75
# passes over the person alone: the first one sees people whole of whom the whole image showed a part
PASSES = 2
# size of a frame's box, relative to the common one, from which it shows the whole person
WHOLE = 0.7
# of progress per frame
UNITS = 1 + PASSES


def person_masks(
    images: Tensor, network: PersonMatting | None = None, follows_one: bool = True
) -> Generator[int, None, Tensor]:
    """Coverage of people in the frames of a video.

    Args:
        images: [F, H, W, 3] in 0..1.
        network: On the device where it runs; None: the bundled one, on the CPU.
        follows_one: Look at the largest person alone if it is small.

    Yields:
        Finished units, `UNITS` per frame.

    Returns:
        [F, H, W] in 0..1, zero where nobody is.
    """
    network = load_person_matting() if network is None else network
    count, whole = len(images), list[Tensor]()
    for part in images.split(BATCH):
        whole.append(_seen(network, part))
        yield sum(map(len, whole))
    masks = torch.cat(whole)
    for number in range(1, UNITS):
        squares = _squares(largest_subject(masks).masks) if follows_one else []
        for i, square in enumerate(squares):
            masks[i] = _close(network, images[i], square)
            yield number * count + i + 1
    yield UNITS * count
    return masks


def people_mask(network: PersonMatting, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Everybody in one image [H, W, 3]: [H, W], 255 where a person is more likely than not."""
    seen = _seen(network, torch.from_numpy(image)[None].float() / 255)[0]
    return np.where((seen > INSIDE).cpu().numpy(), 255, 0).astype(np.uint8)


@torch.no_grad()
def _seen(network: PersonMatting, images: Tensor) -> Tensor:
    """[F, H, W] from images [F, H, W, 3] that are stretched to the network's square, as MediaPipe does."""
    device = next(network.parameters()).device
    planes = images[..., :3].permute(0, 3, 1, 2).float()
    small = F.interpolate(planes, (PIXELS, PIXELS), mode="bilinear", antialias=True, align_corners=False)
    made = network(small.to(device)).cpu()[:, None]
    size = images.shape[1:3]
    return F.interpolate(made, size, mode="bilinear", antialias=True, align_corners=False)[:, 0].clamp(0, 1)


def _squares(masks: Tensor) -> list[Square]:
    """A square around the person in every frame; empty if the person is large or nowhere.

    In frames in which the network misses the person or a part, the place lies between those of the frames before and after.
    """
    boxes = np.full((len(masks), 4), np.nan)
    for i, inside in enumerate((masks > INSIDE).numpy()):
        ys, xs = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
        if len(xs):
            boxes[i] = xs[0], ys[0], xs[-1], ys[-1]
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    if np.isnan(longer).all():
        return []
    # a frame in which the network takes the background for a person must not set the size
    common = float(np.nanquantile(longer, 0.9))
    half = round(MARGIN * common / 2)
    if not 0 < 2 * half < CLOSE * max(masks.shape[1:]):
        return []
    whole = (longer >= WHOLE * common) & (longer <= common / WHOLE)
    frames, at = np.arange(len(masks)), whole.nonzero()[0]
    centers = (boxes[at, :2] + boxes[at, 2:]) / 2
    x, y = (np.interp(frames, at, centers[:, axis]) for axis in (0, 1))
    return [Square(round(x[i]) - half, round(y[i]) - half, 2 * half) for i in frames]


def _close(network: PersonMatting, image: Tensor, square: Square) -> Tensor:
    """The mask [H, W] of one image from its square alone; zero outside. Pixels beyond the image repeat its border."""
    height, width = image.shape[:2]
    left, top, side = square
    rows = torch.arange(top, top + side)
    columns = torch.arange(left, left + side)
    cut = image[rows.clamp(0, height - 1)[:, None], columns.clamp(0, width - 1)]
    made = _seen(network, cut[None])[0]
    mask = torch.zeros(height, width)
    y, x = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    mask[rows[y][0] : rows[y][-1] + 1, columns[x][0] : columns[x][-1] + 1] = made[y][:, x]
    return mask
