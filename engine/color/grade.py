"""A color grade: what each displayed color becomes. It depends on nothing else, so it is steady over time and views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .adjustments import contrasted, lit, saturated
from .presets import LOOKS, NONE, PRESETS
from .table import ColorTable

__all__ = ["PRESETS", "Grade"]


@dataclass(frozen=True, eq=False)
class Grade:
    """Light, contrast and saturation, then a preset, then a look-up table; `strength` mixes the result in.

    Example:
        warm = Grade(exposure=0.5, temperature=60).apply(torch.rand(4, 3))
    """

    exposure: float = 0.0  # stops, in linear light
    temperature: float = 0.0  # mireds from 6504 K, in linear light
    tint: float = 0.0  # thousandths of Duv, in linear light
    contrast: float = 1.0  # about middle gray, on displayed values
    saturation: float = 1.0  # about luma, on displayed values
    preset: str = NONE
    table: ColorTable | None = None
    strength: float = 1.0  # of displayed values

    def is_neutral(self) -> bool:
        """Whether no color changes."""
        light = (self.exposure, self.temperature, self.tint)
        adjusts = light != (0, 0, 0) or (self.contrast, self.saturation) != (1, 1) or self.preset != NONE
        return self.strength == 0 or not (adjusts or self._has_table)

    @property
    def _has_table(self) -> bool:
        return self.table is not None and not self.table.is_identity

    def apply(self, colors: Tensor) -> Tensor:
        """Displayed colors [..., 3] graded, in 0..1; themselves where the grade is neutral. Differentiable."""
        if self.is_neutral():
            return colors
        made = colors
        if self.exposure or self.temperature or self.tint:
            made = lit(made, self.exposure, self.temperature, self.tint)
        if self.contrast != 1:
            made = contrasted(made, self.contrast)
        if self.saturation != 1:
            made = saturated(made, self.saturation)
        if self.preset != NONE:
            made = LOOKS[self.preset].apply(made.clamp(0, 1))
        if self.table is not None and self._has_table:
            made = self.table.apply(made)
        made = made.clamp(0, 1)
        return made if self.strength == 1 else torch.lerp(colors, made, self.strength)

    def changes_surroundings(self) -> bool:
        """Whether what is behind the subject changes too: all but materials and paint."""
        return self.preset == NONE or LOOKS[self.preset].is_scenic
