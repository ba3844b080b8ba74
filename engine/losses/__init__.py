"""Losses and metrics: images [B, C, H, W] in [0, 1], HexPlane planes [1, C, H, W]."""

from .metrics import lpips, psnr
from .photometric import l1, l2, ssim, ssim_map
from .regularizers import hexplane_regularizer, plane_smoothness, second_difference, time_l1, time_smoothness

__all__ = [
    "hexplane_regularizer",
    "l1",
    "l2",
    "lpips",
    "plane_smoothness",
    "psnr",
    "second_difference",
    "ssim",
    "ssim_map",
    "time_l1",
    "time_smoothness",
]
