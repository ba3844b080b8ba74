"""The networks of GVFDiffusion that make a Gaussian variation field from image tokens, in plain PyTorch.

Source: "Gaussian Variation Field Diffusion for High-fidelity Video-to-4D Synthesis" (Zhang et al., ICCV 2025).
"""
