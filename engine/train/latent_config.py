"""The numbers that training a latent field and editing it share."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, number


@dataclass(frozen=True)
class LatentConfig:
    """How a latent field learns; a step's Config adds its own numbers and may say other defaults."""

    iterations: int = number(
        600, 1, 1_000_000, "Training steps. More is nearer to what is asked, and slower."
    )
    images_per_step: int = number(
        4, 1, 64, "Views compared in each step, all of one moment. More is steadier and slower."
    )
    feature_rate: float = number(
        0.05, 0.0, 10.0, "Learning rate of the latent features. More learns faster and less steadily.", 1e-3
    )
    refiner_rate: float = number(
        1e-3, 0.0, 1.0, "Learning rate of the refinement layer. More learns faster and less steadily.", 1e-4
    )
    rasterizer: str = choice(
        "auto", ("auto", "gsplat", "numba", "torch"), "What draws the Gaussians; auto takes the fastest here."
    )
    preview_every: int = number(50, 0, 100_000, "Steps between two preview pictures; 0 shows none.")
    checkpoint_seconds: float = number(60.0, 1.0, 1e6, "How often the work is saved, in seconds.")
    max_seconds: float = number(
        0.0, 0.0, 1e7, "Stop after this many seconds with what is there; 0 takes all steps."
    )
    seed: int = number(0, 0, 2**63 - 1, "Same seed, same inputs: same latent field.")
