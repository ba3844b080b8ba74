"""Looks that are a function of a displayed color alone: materials, light and weather.

They are the definitions by which the bundled editor's edits of the same names are made and judged
(training/demo_clip/edits.py; a test compares both), so a preset is what that editor imitates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .adjustments import luma

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Ramp:
    """A color for each luma: black, middle and white, with straight lines between them."""

    low: Color
    middle: Color
    high: Color
    is_scenic = False

    def apply(self, colors: Tensor) -> Tensor:
        low, middle, high = (torch.tensor(c, dtype=colors.dtype, device=colors.device) for c in self._stops)
        y = luma(colors)
        return torch.where(y < 0.5, low + (middle - low) * (2 * y), middle + (high - middle) * (2 * y - 1))

    @property
    def _stops(self) -> tuple[Color, Color, Color]:
        return self.low, self.middle, self.high


@dataclass(frozen=True)
class Mix:
    """luma · `gray` + color · `own` + `added`, for each channel."""

    gray: Color
    own: Color
    added: Color
    # light and weather change what is behind the subject too
    is_scenic = True

    def apply(self, colors: Tensor) -> Tensor:
        gray, own, added = (
            torch.tensor(c, dtype=colors.dtype, device=colors.device)
            for c in (self.gray, self.own, self.added)
        )
        return luma(colors) * gray + colors * own + added


NONE = "none"
LOOKS: dict[str, Ramp | Mix] = {
    "gold": Ramp((0.16, 0.08, 0.01), (0.78, 0.52, 0.12), (1.0, 0.92, 0.62)),
    "bronze": Ramp((0.10, 0.05, 0.02), (0.50, 0.29, 0.12), (0.93, 0.74, 0.48)),
    "marble": Ramp((0.52, 0.53, 0.56), (0.80, 0.80, 0.80), (0.98, 0.97, 0.95)),
    "night": Mix((0.11, 0.154, 0.3025), (0.1, 0.1, 0.1), (0.0, 0.01, 0.05)),
    "golden hour": Mix((0.0, 0.0, 0.0), (1.12, 0.86, 0.52), (0.10, 0.04, 0.0)),
    "fog": Mix((0.0, 0.0, 0.0), (0.45, 0.45, 0.45), (0.44, 0.4565, 0.473)),
    "black and white": Mix((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "red": Ramp((0.18, 0.0, 0.0), (0.85, 0.08, 0.06), (1.0, 0.62, 0.58)),
    "green": Ramp((0.0, 0.14, 0.02), (0.08, 0.65, 0.14), (0.65, 1.0, 0.66)),
    "blue": Ramp((0.0, 0.02, 0.22), (0.08, 0.24, 0.88), (0.60, 0.74, 1.0)),
}
PRESETS = (NONE, *LOOKS)
