"""Folders of image-to-4D models with RANDOM weights: shapes and rules, no videos."""

from pathlib import Path
from typing import Any

import torch

from engine.models.camera_video import CameraVideo, CameraVideoConfig, save_camera_video
from engine.models.reconstruction import Ldrm, LdrmConfig, pixels_format, save_ldrm

FORMAT = pixels_format(4, 8)
VIDEO = CameraVideoConfig(
    FORMAT, frames=5, pixels=32, width=24, blocks=1, heads=2, depth_channels=(4, 8, 32), depth_blocks=1, pixel_channels=4,
    steps=2,
)  # fmt: skip
LDRM = LdrmConfig(
    FORMAT, patch=1, width=24, blocks=1, heads=2, deconv_channels=(8, 8, 8), head_channels=8, time_stride=4, space_stride=2,
    distance=2.0, opacity_bias=2.0, image_input=True, lifetimes=True, correspondences="correlation", match_channels=8,
)  # fmt: skip


def random_weights(model: torch.nn.Module, seed: int = 0, std: float = 0.05) -> Any:
    """All weights random, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = std * torch.randn(parameter.shape, generator=generator)
    return model


def tiny_video(config: CameraVideoConfig = VIDEO, seed: int = 0) -> CameraVideo:
    return random_weights(CameraVideo(config), seed).eval()


def save_image_model(
    folder: Path, video: CameraVideoConfig | None = VIDEO, ldrm: LdrmConfig = LDRM, **more: Any
) -> Path:
    """A folder; `more` goes to `save_ldrm`."""
    folder.mkdir(parents=True)
    save_ldrm(random_weights(Ldrm(ldrm), 1), folder / "ldrm.safetensors", **more)
    if video is not None:
        save_camera_video(tiny_video(video), folder / "video.safetensors")
    return folder
