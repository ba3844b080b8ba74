"""How a diffusion model guides a scene: edit (images to images), score and delta (images or latents to a loss)."""
