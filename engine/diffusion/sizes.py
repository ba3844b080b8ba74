"""How large pictures are for the model: the paper's rule for full-size models, the nearest fit for small ones."""

from __future__ import annotations

from ..errors import InputError
from .backbone import Backbone

FULL_SIZE = 512  # pixels of the long side from which the paper's rule holds


def edit_size(width: int, height: int, long_side: int, multiple: int = 64) -> tuple[int, int]:
    """(width, height) of the edited pictures: Instruct-4DGS's rule, in whole numbers.

    The short side is `long_side`'s share of it rounded *up* to the multiple, the other follows and is floored:
    1352×1014 → 512×384, 2048×1088 → 576×320, 550×802 → 384×512 for 512. Raises InputError where nothing would be left.
    """
    if min(width, height) < 1 or long_side < multiple:
        raise InputError(
            "DIF-041",
            f"Pictures of {width}×{height} cannot be edited with a long side of {long_side} pixels; the model needs at "
            f"least {multiple}: raise resolution.",
        )
    short, long = sorted((width, height))
    blocks = -(-short * long_side // (long * multiple))
    other = long * blocks // short * multiple
    return (blocks * multiple, other) if width <= height else (other, blocks * multiple)


def nearest_size(width: int, height: int, long_side: int, multiple: int) -> tuple[int, int]:
    """(width, height) with the long side at `long_side` and both rounded to the nearest multiple, at least one each."""
    long = max(width, height)
    sides = [max(1, round(side * long_side / (long * multiple))) * multiple for side in (width, height)]
    return sides[0], sides[1]


def size_for(backbone: Backbone, width: int, height: int, long_side: int = 0) -> tuple[int, int]:
    """(width, height) at which `backbone` edits pictures of width×height; `long_side` 0 = what suits the model.

    From 512 pixels on the paper's rule; below, where its steps of 64 would stretch a picture by up to a third, the
    nearest multiple of four latents (of one latent below 16 latents a side). Raises InputError where it is too small.
    """
    long_side = long_side or backbone.defaults.resolution
    if long_side >= FULL_SIZE:
        return edit_size(width, height, long_side, max(64, backbone.vae_scale_factor))
    if long_side < backbone.vae_scale_factor:
        raise InputError(
            "DIF-042",
            f"resolution is {long_side}; {backbone.name} needs at least {backbone.vae_scale_factor} pixels a side: raise it.",
        )
    return nearest_size(
        width,
        height,
        long_side,
        backbone.vae_scale_factor * (4 if long_side >= 16 * backbone.vae_scale_factor else 1),
    )
