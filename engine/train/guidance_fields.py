"""Config fields of every edit by instruction: how closely the text and the original image are followed."""

from __future__ import annotations

from typing import Any

from ..fields import number


def guidance_scale_field() -> Any:
    """The guidance scale of the text, s_T."""
    return number(
        0.0,
        0.0,
        50.0,
        "Guidance scale for the text (s_T). Higher follows the prompt more; typical 7–12; 0 uses the model's default.",
        0.1,
        words={0: "auto"},
    )


def image_guidance_scale_field() -> Any:
    """The image guidance scale, s_I."""
    return number(
        0.0,
        0.0,
        10.0,
        "Image guidance scale (s_I). Higher stays closer to the original image; typical 1.2–1.8; 0 uses the model's "
        "default.",
        0.1,
        words={0: "auto"},
    )
