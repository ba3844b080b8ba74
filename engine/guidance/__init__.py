"""How a diffusion model guides a scene: edit (pictures in, pictures out) and score (pictures in, a loss out)."""
