"""Latent fields: a 4D scene whose Gaussians carry latents of a diffusion model's autoencoder instead of colors."""

from .field import FieldRenderer, LatentField
from .rasterize import Drawing, draw, latent_cameras, min_scales
from .vae_signature import VaeSignature

__all__ = ["Drawing", "FieldRenderer", "LatentField", "VaeSignature", "draw", "latent_cameras", "min_scales"]
