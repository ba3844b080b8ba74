"""Settings of an edit."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..diffusion import MODES
from ..errors import InputError
from .classifier_free import Guidance
from .inpaint import KeepRequest

STARTS = ("noised originals", "noise")
# those of one call of the network, and injection from key views, which takes several
ATTENTION = (*MODES, "epipolar")


def kept_steps(steps: int, strength: float) -> int:
    """How many of a schedule's `steps` are run at a strength in 0..1; at least one, unless it is 0."""
    return max(1, round(steps * strength)) if strength > 0 else 0


@dataclass(frozen=True)
class EditRequest:
    """Settings of an edit, without placeholders for a model's defaults.

    Args:
        guidance: Prompts and scales.
        steps: Denoising steps of the whole schedule.
        strength: Fraction of the noise schedule that is run, 0..1.
        start: One of STARTS; "noise" only has an effect at full strength.
        attention: One of ATTENTION; "epipolar" needs the images' cameras.
        key: Index of the key image, which the others attend to; with "epipolar", its frame is the reference frame.
        frames_at_once: Images per chunk; 0: all.
        seed: Seed of the noise.
        keep: How the originals are kept where the edit has a keep mask.

    Raises:
        InputError: Empty prompt, unknown start, or strength outside 0..1.
    """

    guidance: Guidance
    steps: int
    strength: float = 1.0
    start: str = "noised originals"
    attention: str = "keyframe"
    key: int = 0
    frames_at_once: int = 0
    seed: int = 0
    keep: KeepRequest = field(default_factory=KeepRequest)

    def __post_init__(self) -> None:
        if not self.guidance.prompt.strip():
            raise InputError("GUI-002", "The prompt is empty; write what to change, such as 'make it night'.")
        if self.start not in STARTS:
            raise InputError("GUI-003", f"start is '{self.start}'; choose one of {', '.join(STARTS)}.")
        if not 0 <= self.strength <= 1:
            raise InputError("GUI-004", f"strength is {self.strength}; it must be between 0 and 1.")

    def chunks(self, count: int) -> list[list[int]]:
        """Indices of `count` images by chunk. With shared attention the key comes first in each, unless one holds all."""
        size = self.frames_at_once
        if size == 0 or size >= count:
            return [list(range(count))]
        if self.attention == "vanilla":
            return [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        others = [i for i in range(count) if i != self.key]
        room = max(1, size - 1)
        return [[self.key, *others[i : i + room]] for i in range(0, len(others), room)]
