"""Image sizes for the model: the paper's rule for full-size models, the nearest fit for small ones."""

from __future__ import annotations

from ..errors import InputError
from .backbone import Backbone

# long side in pixels from which the paper's rule is used
FULL_SIZE = 512


def edit_size(width: int, height: int, long_side: int, multiple: int = 64) -> tuple[int, int]:
    """Size of the edited images by Instruct-4DGS's rule, in whole numbers.

    The short side is scaled with the long one and rounded *up* to the multiple; the other side follows and is rounded
    down: 1352×1014 → 512×384, 2048×1088 → 576×320, 550×802 → 384×512 for 512.

    Args:
        width: Width of the originals, in pixels.
        height: Height of the originals, in pixels.
        long_side: Target for the long side, in pixels.
        multiple: Both sides become multiples of it, in pixels.

    Returns:
        (width, height) in pixels.

    Raises:
        InputError: `long_side` is smaller than `multiple`.
    """
    if min(width, height) < 1 or long_side < multiple:
        raise InputError(
            "DIF-041",
            f"Images of {width}×{height} cannot be edited with a long side of {long_side} pixels; the model needs at "
            f"least {multiple}, raise resolution.",
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
    """Size at which `backbone` edits images of width×height.

    From 512 pixels on, the paper's rule. Below, where its multiples of 64 would stretch an image by up to a third, the
    nearest multiple of four latents (of one latent below 16 latents per side).

    Args:
        backbone: The diffusion model.
        width: Width of the originals, in pixels.
        height: Height of the originals, in pixels.
        long_side: Target for the long side, in pixels; 0: the model's default.

    Returns:
        (width, height) in pixels.

    Raises:
        InputError: `long_side` is smaller than the model allows.
    """
    long_side = long_side or backbone.defaults.resolution
    if long_side >= FULL_SIZE:
        return edit_size(width, height, long_side, max(64, backbone.vae_scale_factor))
    if long_side < backbone.vae_scale_factor:
        raise InputError(
            "DIF-042",
            f"resolution is {long_side}, but {backbone.name} needs at least {backbone.vae_scale_factor} pixels per side; "
            "raise it.",
        )
    return nearest_size(
        width,
        height,
        long_side,
        backbone.vae_scale_factor * (4 if long_side >= 16 * backbone.vae_scale_factor else 1),
    )
