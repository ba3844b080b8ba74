"""Parameters of baking a scene to a player file."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import number, validate
from ..scene import harmonics


@dataclass(frozen=True)
class BakeConfig:
    """Accuracy and size of a player file."""

    max_error: float = number(
        0.002,
        1e-5,
        0.1,
        "Largest position error of a Gaussian, relative to the subject's radius. Higher makes a smaller file; typical "
        "0.001–0.005.",
        0.0005,
        label="max error",
        advanced=True,
    )
    most: int = number(
        300_000,
        1,
        10_000_000,
        "Largest number of Gaussians; beyond it the least visible ones are dropped.",
        1000,
        label="max Gaussians",
        advanced=True,
    )
    sh_degree: int = number(
        1,
        0,
        harmonics.MAX_DEGREE,
        "Spherical harmonics degree to keep. 0 drops view-dependent color, 3 keeps everything and makes a larger file.",
        label="SH degree",
        advanced=True,
    )
    segment_seconds: float = number(
        0.0,
        0.0,
        60.0,
        "Splits scenes of more than 1.5 segments into parts that load while the scene plays, and bakes them one by one, so "
        "that memory does not grow with the length. 0 writes one piece; 2 suits scenes of more than about 10 seconds. Higher "
        "makes a slightly smaller file and takes longer to load before it plays.",
        0.5,
        label="segment length (seconds)",
        advanced=True,
        since="0.3",
        words={0: "one piece"},
    )

    def __post_init__(self) -> None:
        validate(self)
