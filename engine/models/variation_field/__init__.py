"""The networks of GVFDiffusion that make a Gaussian variation field from image tokens, in plain PyTorch.

Source: "Gaussian Variation Field Diffusion for High-fidelity Video-to-4D Synthesis" (Zhang et al., ICCV 2025).
"""

from .anchors import farthest_points, interpolate_displacements, nearest_points
from .conditions import Conditions, Statistics
from .config import ConditioningCamera, Sampling, VariationConfig
from .deltas import canonical_changes, rotated
from .folder import VariationFolder
from .guidance import guided, guided_twice
from .image_encoder import ImageEncoder, ImageEncoderShape
from .variation_dit import VariationDit, VariationDitShape
from .variation_vae import Posterior, VariationVae, VariationVaeShape, padded

__all__ = [
    "ConditioningCamera",
    "Conditions",
    "ImageEncoder",
    "ImageEncoderShape",
    "Posterior",
    "Sampling",
    "Statistics",
    "VariationConfig",
    "VariationDit",
    "VariationDitShape",
    "VariationFolder",
    "VariationVae",
    "VariationVaeShape",
    "canonical_changes",
    "farthest_points",
    "guided",
    "guided_twice",
    "interpolate_displacements",
    "nearest_points",
    "padded",
    "rotated",
]
