"""Parameters of measuring a generated scene."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..fields import number, text, validate
from ..render import rasterizer_field


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured of a generated scene, and how."""

    azimuths: str = text(
        "",
        "Views to render for a true scene, in degrees around it, counterclockwise from the front, such as '-75 15 105 195'. The "
        "scene must be z up, in a box of side 1. Empty uses the scene's own cameras.",
    )
    view: int = number(
        0, 0, 100_000, "Camera of the scene that took the reference images.", label="view of the images"
    )
    clip_length: int = number(
        16,
        2,
        256,
        "Frames of a clip for FVD and KVD. Papers use 16.",
        label="frames per clip",
        advanced=True,
    )
    clip_stride: int = number(
        8,
        1,
        256,
        "Frames between the starts of two clips. Lower makes more clips, which share frames.",
        label="frames between clips",
        advanced=True,
    )
    clips: int = number(
        0,
        0,
        1_000_000,
        "Largest number of clips of each set. Papers use 2048; fewer give a higher FVD. 0 uses all.",
        label="max clips",
        words={0: "all"},
        advanced=True,
    )
    resolution: int = number(
        256, 32, 2048, "Size of the images at the azimuths, in pixels. Higher is slower.", 32, advanced=True
    )
    pictures: int = number(
        4,
        0,
        64,
        "Number of comparison rows (reference, generated, difference, error map) to show.",
        label="comparison rows",
        advanced=True,
    )
    seed: int = number(
        0, 0, 2**31 - 1, "Random seed of the subsets that KVD is averaged over.", advanced=True
    )
    rasterizer: str = rasterizer_field()
    prompt: str = text(
        "",
        "What the video should show, such as 'a dog walks over a meadow', for the CLIP score. Empty skips it.",
        since="0.2",
    )
    seconds: float = number(
        0.0,
        0.0,
        1e6,
        "How long the generation took, in seconds, for the report. 0 leaves it out.",
        1.0,
        label="seconds of generation",
        words={0: "unknown"},
        since="0.2",
        advanced=True,
    )

    def __post_init__(self) -> None:
        validate(self)
        angles(self.azimuths)


def angles(words: str) -> list[float]:
    """The azimuths of a text, in degrees. Raises InputError where it has others than numbers, or more than 360."""
    try:
        found = [float(word) for word in words.replace(",", " ").split()]
    except ValueError:
        found = [float("nan")]
    if not all(-1e4 < angle < 1e4 for angle in found) or len(found) > 360:
        raise InputError(
            "STP-050", f"azimuths is '{words[:60]}'; enter angles in degrees, such as '-75 15 105 195'."
        )
    return found
