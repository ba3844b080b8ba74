"""Parameters that both stages of an edit share."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, flag, number
from ..render import rasterizer_field
from .parameters import NAMES

PRESETS = {"paper": ("means", "sh_dc", "sh_rest"), "reference code": NAMES}


@dataclass(frozen=True)
class EditConfig:
    """What may change and how fast; a step's Config adds its own fields and may set other defaults."""

    preset: str = choice(
        "paper",
        tuple(PRESETS),
        "What is optimized: colors and positions (paper), or scales, rotations and opacities too (reference code).",
        label="optimized parameters",
    )
    position_lr: float = number(
        1.6e-5,
        0.0,
        1.0,
        "Learning rate of positions, relative to the scene's extent. The reference's 1.6e-4 follows the edited frame more "
        "closely and blurs the others.",
        1e-6,
        id="position_rate",
        advanced=True,
    )
    color_lr: float = number(
        2.5e-3,
        0.0,
        1.0,
        "Learning rate of base colors, decaying in the second half; view-dependent SH bands use 1/20 of it.",
        1e-4,
        id="color_rate",
        advanced=True,
    )
    opacity_lr: float = number(
        0.05, 0.0, 1.0, "Learning rate of opacity logits (reference code).", 1e-3, id="opacity_rate", advanced=True
    )  # fmt: skip
    scale_lr: float = number(
        5e-3, 0.0, 1.0, "Learning rate of log scales (reference code).", 1e-4, id="scale_rate", advanced=True
    )
    rotation_lr: float = number(
        1e-3,
        0.0,
        1.0,
        "Learning rate of quaternions (reference code).",
        1e-4,
        id="rotation_rate",
        advanced=True,
    )
    mutes_appearance: bool = flag(
        False,
        "Ignores color and opacity changes of the deformation, so that the edit looks the same in every frame.",
        label="freeze appearance over time",
        advanced=True,
    )
    trains_deformation: bool = flag(
        False,
        "Also trains the deformation. The paper advises against it; for comparison only.",
        label="train deformation",
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
    seed: int = number(0, 0, 2**63 - 1, "Random seed. The same seed and inputs give the same scene.")
    iterations: int = number(
        1000, 1, 1_000_000, "Number of optimization steps. More follows the edited views more closely."
    )
