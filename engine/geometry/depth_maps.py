"""Depth maps in the forms that they come in: images, maps, or the geometry of Depth Anything 3 and MoGe nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError


def read_depth_maps(given: Any, what: str = "depth") -> Tensor:
    """Depth maps as they are, of any unit; what 0 means is left to the caller.

    Args:
        given: Images [F, h, w, 3] or maps [F, h, w], or a dictionary with `depth` or `points` [F, h, w, 3] and perhaps `mask`
            and `sky`, as Depth Anything 3 and MoGe nodes give it.
        what: Name in errors.

    Returns:
        [F, h, w] float32 on the CPU, NaN outside of the mask and in the sky.

    Raises:
        InputError: It is not depth, or there is none in it.
    """
    found = _in_table(given, what) if isinstance(given, Mapping) else given
    if not isinstance(found, Tensor) or found.ndim not in (3, 4) or not found.numel():
        form = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            "GEO-012",
            f"The {what} is {form}, not depth maps [frames, height, width]; connect depth images, or the geometry of a Depth "
            "Anything 3 or MoGe node.",
        )
    maps = _plane(found)
    for name in ("mask", "sky") if isinstance(given, Mapping) else ():
        marks = given.get(name)
        if isinstance(marks, Tensor) and (plane := _plane(marks)).shape == maps.shape:
            maps = torch.where(plane < 0.5 if name == "mask" else plane > 0.5, torch.nan, maps)
    return maps


def _in_table(given: Mapping[Any, Any], what: str) -> Tensor:
    depth, points = given.get("depth"), given.get("points")
    if isinstance(depth, Tensor):
        return depth
    if not isinstance(points, Tensor):
        raise InputError(
            "GEO-011",
            f"The {what} has neither 'depth' nor 'points', only {', '.join(map(str, given)) or 'nothing'}. Connect the geometry "
            "of a Depth Anything 3 or MoGe node.",
        )
    # the depth of a point is its z
    return points[..., 2]


def _plane(given: Tensor) -> Tensor:
    """[F, h, w] of maps, or of images' mean."""
    maps = given.detach().cpu().float()
    return maps[..., :3].mean(-1) if maps.ndim == 4 else maps
