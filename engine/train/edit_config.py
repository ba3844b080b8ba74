"""The numbers that both stages of an edit have."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, flag, number
from .parameters import NAMES

PRESETS = {"paper": ("means", "sh_dc", "sh_rest"), "reference code": NAMES}


@dataclass(frozen=True)
class EditConfig:
    """What may change and how fast; a stage's Config adds its own numbers and may say other defaults."""

    preset: str = choice(
        "paper",
        tuple(PRESETS),
        "What may change: colours and positions (paper), or sizes, rotations and opacities as well (reference code).",
    )
    position_rate: float = number(
        1.6e-5,
        0.0,
        1.0,
        "Learning rate of positions, times the scene's extent. The reference's 1.6e-4 follows the edited moment more "
        "closely and blurs the others.",
        1e-6,
    )
    color_rate: float = number(
        2.5e-3,
        0.0,
        1.0,
        "Learning rate of flat colours, settling in the second half; angle-dependent ones take a twentieth.",
        1e-4,
    )
    opacity_rate: float = number(0.05, 0.0, 1.0, "Learning rate of opacity logits (reference code).", 1e-3)
    scale_rate: float = number(5e-3, 0.0, 1.0, "Learning rate of log scales (reference code).", 1e-4)
    rotation_rate: float = number(1e-3, 0.0, 1.0, "Learning rate of quaternions (reference code).", 1e-4)
    mutes_appearance: bool = flag(
        False,
        "Leaves the motion's own changes of colour and opacity out, so that the edit looks the same at every moment.",
    )
    trains_deformation: bool = flag(
        False, "Also trains the motion, which the method advises against: for comparison only."
    )
    rasterizer: str = choice(
        "auto", ("auto", "gsplat", "numba", "torch"), "What draws the Gaussians; auto takes the fastest here."
    )
    preview_every: int = number(50, 0, 100_000, "Steps between two preview pictures; 0 shows none.")
    checkpoint_seconds: float = number(60.0, 1.0, 1e6, "How often the work is saved, in seconds.")
    max_seconds: float = number(
        0.0, 0.0, 1e7, "Stop after this many seconds with what is there; 0 takes all steps."
    )
    seed: int = number(0, 0, 2**63 - 1, "Same seed, same inputs: same scene.")
    iterations: int = number(
        1000, 1, 1_000_000, "Optimisation steps. More follows the edited views more closely."
    )
