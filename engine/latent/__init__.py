"""A moving scene seen through a diffusion model's autoencoder: Gaussians that carry latents instead of colours."""

from .codec import Codec
from .field import FieldRenderer, LatentField
from .rasterize import Drawing, draw, latent_cameras, least_scales

__all__ = ["Codec", "Drawing", "FieldRenderer", "LatentField", "draw", "latent_cameras", "least_scales"]
