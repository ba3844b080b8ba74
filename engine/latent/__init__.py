"""A moving scene seen through a diffusion model's autoencoder: Gaussians that carry latents instead of colours."""

from .field import FieldRenderer, LatentField
from .rasterize import Drawing, draw, latent_cameras, min_scales
from .vae_signature import VaeSignature

__all__ = ["Drawing", "FieldRenderer", "LatentField", "VaeSignature", "draw", "latent_cameras", "min_scales"]
