"""How many frames a video model makes: T frames stand for T' = (T − 1) / k + 1 latent frames, the first for one alone."""

from __future__ import annotations

from ..errors import InputError
from ..frame_counts import counts_around


def latent_frames(frames: int, time_factor: int, name: str, group: int = 1) -> int:
    """Number of latent frames of a video.

    Args:
        frames: T.
        time_factor: k, frames per latent frame except the first.
        name: The model's name in the error.
        group: Latent frames after the first that the model decodes together: 2 in CogVideoX.

    Returns:
        T'.

    Raises:
        InputError: The model makes no video of that length; the error offers the nearest two.
    """
    step = time_factor * group
    if frames < 1 or (frames - 1) % step:
        fewer, more = counts_around(frames, step)
        raise InputError(
            "DIF-071",
            f"{name} cannot make {frames} frames: their number must be a multiple of {step} plus 1. Choose "
            f"{fewer} or {more} frames.",
        )
    return (frames - 1) // time_factor + 1
