"""Parameters of training a latent field."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, flag, number, text, validate
from .latent_config import LatentConfig
from .originals import SOURCES

REFINERS = ("auto", "none", "small", "full", "autoencoder")


@dataclass(frozen=True)
class LatentTrainingConfig(LatentConfig):
    """Which images are encoded, what learns of them, and how the losses are weighted."""

    refiner: str = choice(
        "auto",
        REFINERS,
        "Refinement layer: small (32 channels), full (128), autoencoder (initialized from the model's own decoder), or "
        "none. auto is small for small models and full for others.",
        label="refinement layer",
    )
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the encoded images in pixels. More is slower; 0 uses the model's default.",
        words={0: "auto"},
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "Images to encode: captured or rendered. auto uses captured images if the scene has not been edited.",
        label="original source",
    )
    moments: str = text(
        "all",
        "Indices of the frames to train on, such as '0 5-9'; 'all' uses every frame.",
        label="frames",
        advanced=True,
    )
    depends_on_direction: bool = flag(
        False,
        "View-dependent latents (SH degree 1): closer on shiny surfaces, four times the size.",
        label="view-dependent latents",
        advanced=True,
    )
    warm_up: float = number(
        0.2,
        0.0,
        1.0,
        "Fraction of the iterations before the refinement layer starts training.",
        0.01,
        label="refinement starts at",
        advanced=True,
    )
    field_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Weight of the loss of the unrefined latents.",
        0.1,
        label="unrefined weight",
        advanced=True,
    )
    refiner_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Weight of the loss of the refined latents.",
        0.1,
        label="refined weight",
        advanced=True,
    )
    samples: int = number(
        4,
        1,
        16,
        "Samples per latent along each side, averaged. More is smoother and slower.",
        label="samples per latent",
        advanced=True,
    )
    scale_floor: float = number(
        0.25,
        0.0,
        4.0,
        "Smallest size of a Gaussian, in samples as seen from the nearest camera.",
        0.05,
        label="min scale",
        advanced=True,
    )

    def __post_init__(self) -> None:
        validate(self)
