"""Rendering of Gaussians: the rasterizer protocol and its backends, the renderer, camera paths."""

from .camera_paths import CameraPath
from .choice import choose, choose_device, rasterizer_field, remark
from .rasterizer import DividedRasterizer, RasterInfo, Rasterizer, RasterSettings
from .registry import Registration, register
from .renderer import Picture, render_divided, render_gaussians

__all__ = [
    "CameraPath",
    "DividedRasterizer",
    "Picture",
    "RasterInfo",
    "RasterSettings",
    "Rasterizer",
    "Registration",
    "choose",
    "choose_device",
    "rasterizer_field",
    "register",
    "remark",
    "render_divided",
    "render_gaussians",
]
