"""Parameters that training and editing a latent field share."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import number
from ..render import rasterizer_field


@dataclass(frozen=True)
class LatentConfig:
    """How a latent field is optimized; a step's Config adds its own fields and may set other defaults."""

    iterations: int = number(
        600, 1, 1_000_000, "Number of training steps. More steps give a closer fit and take longer."
    )
    images_per_step: int = number(
        4,
        1,
        64,
        "Views per training step, all of one frame. More is smoother and slower.",
        label="batch size",
        advanced=True,
    )
    feature_lr: float = number(
        0.05,
        0.0,
        10.0,
        "Learning rate of the latent features. More learns faster and less smoothly.",
        1e-3,
        id="feature_rate",
        advanced=True,
    )
    refiner_lr: float = number(
        1e-3,
        0.0,
        1.0,
        "Learning rate of the refinement layer. More learns faster and less smoothly.",
        1e-4,
        id="refiner_rate",
        advanced=True,
    )
    rasterizer: str = rasterizer_field()
    preview_every: int = number(
        50,
        0,
        100_000,
        "Steps between two preview images. 0 shows none.",
        words={0: "never"},
        advanced=True,
    )
    checkpoint_seconds: float = number(
        60.0, 1.0, 1e6, "Seconds between two checkpoints.", label="checkpoint every (seconds)", advanced=True
    )
    max_seconds: float = number(
        0.0,
        0.0,
        1e7,
        "Stops after this many seconds and returns the result as it is. 0 runs all iterations.",
        words={0: "no limit"},
    )
    seed: int = number(0, 0, 2**63 - 1, "Random seed. The same seed and inputs give the same latent field.")
