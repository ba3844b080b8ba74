"""A moving scene seen through a diffusion model's autoencoder: Gaussians that carry latents instead of colours."""

from .codec import Codec
from .drawing import Drawing, draw, latent_cameras, least_scales
from .field import FieldRenderer, LatentField

__all__ = ["Codec", "Drawing", "FieldRenderer", "LatentField", "draw", "latent_cameras", "least_scales"]
