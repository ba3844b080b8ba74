"""Pictures of Gaussians: the rasterizer protocol and its backends, the renderer, camera paths."""

from .camera_paths import CameraPath
from .choice import choose, choose_device
from .rasterizer import RasterInfo, Rasterizer, RasterSettings
from .renderer import Picture, render_gaussians

__all__ = [
    "CameraPath",
    "Picture",
    "RasterInfo",
    "RasterSettings",
    "Rasterizer",
    "choose",
    "choose_device",
    "render_gaussians",
]
