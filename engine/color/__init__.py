"""Color grades: look-up tables, adjustments and presets, and what they make of spherical harmonics."""

from .grade import PRESETS, Grade
from .recolor import graded_sh
from .table import ColorTable

__all__ = ["PRESETS", "ColorTable", "Grade", "graded_sh"]
