"""The CPU rasterizer: numba kernels and the rasterizer that launches them."""
