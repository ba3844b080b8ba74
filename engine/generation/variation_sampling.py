"""How a variation field is sampled: method, guidance, windows, and the fit to the video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SAMPLERS = ("multistep", "singlestep", "adaptive")
# units of progress of the adaptive sampler, which does not know its number of steps
ADAPTIVE_UNITS = 100
# a video that is longer by up to this factor than those that the model was trained with is sampled at once, as in the paper
STRETCH = 4 / 3


@dataclass(frozen=True)
class Sampling:
    """How a variation field is sampled.

    Args:
        sampler: One of SAMPLERS.
        steps: Steps of the first two samplers.
        largest_step: Longest step of the adaptive sampler, in half-logSNR.
        image_scale: Guidance scale of the images; 1 is off.
        canonical_scale: Guidance scale of the splat; 1 is off.
        window: Frames that the transformer sees at once.
        overlap: Frames that neighboring windows have at least in common.
        standardized_anchors: How anchors go to the transformer; see `Statistics.anchors`.
        at_once: Evaluate all branches of the guidance as one batch.
        chunk: Gaussians that are decoded at once.
        seed: Seed of the noise.
        shared_noise: Whether all frames start from the same noise.
        fit_steps: Gradient steps that fit the motion to the video afterwards; 0: none.
    """

    sampler: str = "multistep"
    steps: int = 100
    largest_step: float = 1.0
    image_scale: float = 1.0
    canonical_scale: float = 1.0
    window: int = 24
    overlap: int = 12
    standardized_anchors: bool = False
    at_once: bool = True
    chunk: int = 8192
    seed: int = 0
    shared_noise: bool = False
    fit_steps: int = 0

    @property
    def units(self) -> int:
        """Units of progress of the sampling."""
        return ADAPTIVE_UNITS if self.sampler == "adaptive" else self.steps

    def as_record(self) -> dict[str, Any]:
        """What "auto" became, as plain JSON for the history."""
        how = {"largest_step": self.largest_step} if self.sampler == "adaptive" else {"steps": self.steps}
        names = (
            "image_scale",
            "canonical_scale",
            "window",
            "overlap",
            "standardized_anchors",
            "shared_noise",
            "fit_steps",
        )
        return {"sampler": self.sampler, **how, **{name: getattr(self, name) for name in names}}


def units(frames: int, sampling: Sampling) -> int:
    """Units of progress of a run: encoded frames, sampler, decoded frames."""
    return 2 * frames + sampling.units + sampling.fit_steps


def sampling_window(frames: int, trained: int, window: int, overlap: int) -> tuple[int, int]:
    """Window and overlap for a video.

    Args:
        frames: Frames of the video.
        trained: Frames that the model was trained with.
        window: Frames at once; 0: as trained, or all of a video that is at most a third longer.
        overlap: Frames that neighboring windows share; 0: half a window.
    """
    if not window:
        window = frames if frames <= int(STRETCH * trained) else trained
    window = min(window, frames)
    return window, overlap or max((window - 1) // 2, 0)
