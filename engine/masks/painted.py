"""Which of several views an image shows: a mask painted by hand belongs to one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

# pixels at which images are compared
SIDE = 64
# root mean square difference of an image and its own copy, saved and read again
SAME = 0.05
# the next view must differ at least this many times as much
APART = 2.0


def view_of(image: Tensor, views: Tensor) -> int:
    """The index of the view that an image shows.

    Args:
        image: [h, w, 3 or 4] in 0..1.
        views: Images [F, H, W, 3] in 0..1.

    Returns:
        The index of the view.

    Raises:
        InputError: No view looks like the image, or several do.
    """
    small = _small(image[None])
    apart = (_small(views) - small).square().mean(dim=(1, 2, 3)).sqrt()
    order = apart.argsort()
    best = float(apart[order[0]])
    if best > SAME:
        raise InputError(
            "MSK-031",
            f"The painted image looks like none of the {len(views)} views (the nearest differs by {best:.2f}); paint on an image "
            "of the connected Scene Views.",
        )
    if len(views) > 1 and float(apart[order[1]]) < APART * max(best, 1e-3):
        raise InputError(
            "MSK-032",
            f"The painted image looks like views {int(order[0])} and {int(order[1])} alike; choose views that differ, or leave "
            "it unconnected and set view and frame.",
        )
    return int(order[0])


def _small(images: Tensor) -> Tensor:
    """[F, 3, SIDE, SIDE]."""
    planes = images[..., :3].detach().float().cpu().permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(
        planes, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
