"""GS4D Studio's engine: train, edit, render and store moving 3D Gaussian scenes. It knows nothing of ComfyUI."""

__version__ = "0.1.0"
