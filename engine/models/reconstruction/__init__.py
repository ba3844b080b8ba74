"""The latent dynamic reconstruction model of Diff4Splat: latents and cameras to Gaussians that move.

Source: "Diff4Splat" (arXiv 2511.00503). Weights were never published; small ones of our own are described by their file.
"""

from .config import COGVIDEOX, WAN_2_1, WAN_2_2, LatentFormat, LdrmConfig, pixels_format
from .files import load_ldrm, save_ldrm
from .gaussian_maps import GaussianMaps, Motion, as_scene, kept, mean_color, moved
from .ldrm import Ldrm, Reconstruction
from .tokens import latents_to_pixels, pixels_to_latents

__all__ = [
    "COGVIDEOX",
    "WAN_2_1",
    "WAN_2_2",
    "GaussianMaps",
    "LatentFormat",
    "Ldrm",
    "LdrmConfig",
    "Motion",
    "Reconstruction",
    "as_scene",
    "kept",
    "latents_to_pixels",
    "load_ldrm",
    "mean_color",
    "moved",
    "pixels_format",
    "pixels_to_latents",
    "save_ldrm",
]
