"""Color grades: look-up tables, adjustments and presets, what they make of spherical harmonics, and matching of colors."""

from .grade import PRESETS, Grade
from .matching import ColorMap, color_map
from .recolor import graded_sh
from .table import ColorTable

__all__ = ["PRESETS", "ColorMap", "ColorTable", "Grade", "color_map", "graded_sh"]
