"""Tokens of the reconstruction model: latents and Plücker rays cut into the same grid, and rays back to cameras."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from .config import LatentFormat, LdrmConfig


def fold(x: Tensor, time: int, space: int) -> Tensor:
    """Cut [B, T, H, W, C] into cells of `time` frames and `space` × `space` pixels.

    The first frame is alone in its cell, as in causal video encoders: it is repeated `time` times.

    Returns:
        [B, n, H / space, W / space, time · space² · C] with T = time · (n − 1) + 1.
    """
    if time > 1:
        x = torch.cat([x[:, :1].expand(-1, time - 1, -1, -1, -1), x], dim=1)
    x = x.unflatten(1, (-1, time)).unflatten(3, (-1, space)).unflatten(5, (-1, space))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


def pixels_to_latents(video: Tensor, latent: LatentFormat) -> Tensor:
    """A video as latents of `config.pixels_format`, without a trained encoder.

    Args:
        video: [B, T, H, W, 3] in 0..1; H and W are multiples of the space factor.
        latent: The format.

    Returns:
        [B, C, n, h, w] in −1..1.
    """
    latent.latents(video.shape[1])
    return fold(2 * video - 1, latent.time_factor, latent.space_factor).permute(0, 4, 1, 2, 3)


def latents_to_pixels(latents: Tensor, latent: LatentFormat) -> Tensor:
    """The inverse of `pixels_to_latents`: the last of the first frame's repetitions is kept."""
    time, space = latent.time_factor, latent.space_factor
    x = latents.permute(0, 2, 3, 4, 1).unflatten(-1, (time, space, space, 3))
    x = x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
    return (x[:, time - 1 :] + 1) / 2


def token_inputs(latents: Tensor, rays: Tensor, config: LdrmConfig) -> tuple[Tensor, Tensor]:
    """The latent and the pose part of each token, before they are projected.

    Args:
        latents: [B, C, n, h, w].
        rays: Plücker rays [B, T, H, W, 6], moment and direction, relative to the first camera.
        config: Format and patch.

    Returns:
        [B, n, h', w', C · patch²] and [B, n, h', w', 6 · time_factor · cell²]: the same number of tokens.

    Raises:
        InputError: Latents of another format, or rays of another number of frames or size.
    """
    latent = config.latent
    channels, count, height, width = latents.shape[1:]
    if channels != latent.channels:
        raise InputError(
            "REC-003",
            f"The latents have {channels} channels, but the model reads {latent.channels} ({latent.time_factor}×"
            f"{latent.space_factor}×{latent.space_factor}); use the video model and the weights that belong together.",
        )
    if height % config.patch or width % config.patch:
        step = config.cell
        raise InputError(
            "REC-004",
            f"The video has {width * latent.space_factor} × {height * latent.space_factor} pixels; use multiples of {step}.",
        )
    wanted = (latent.frames(count), height * latent.space_factor, width * latent.space_factor)
    if tuple(rays.shape[1:4]) != wanted:
        found = " × ".join(map(str, rays.shape[1:4]))
        raise InputError(
            "REC-005",
            f"The camera path has {found} rays (frames × height × width), but the video has {' × '.join(map(str, wanted))}; "
            "give one camera for each frame, of the video's size.",
        )
    patches = fold(latents.permute(0, 2, 3, 4, 1), 1, config.patch)
    return patches, fold(rays, latent.time_factor, config.cell)


def ray_origins(rays: Tensor) -> Tensor:
    """Camera centers from Plücker rays: the point nearest to all rays of a frame.

    Args:
        rays: [..., H, W, 6], moment and direction.

    Returns:
        [..., 3], computed in float64.
    """
    moment, direction = rays.double().flatten(-3, -2).split(3, dim=-1)
    across = (
        torch.eye(3, dtype=torch.float64, device=rays.device) - direction[..., None] * direction[..., None, :]
    )
    nearest = torch.linalg.cross(direction, moment)
    return torch.linalg.solve(across.sum(-3), nearest.sum(-2)).to(rays.dtype)


def pixel_angles(rays: Tensor) -> Tensor:
    """Angle between the rays of neighboring pixels [..., H, W], in radians: the size of a pixel at distance 1."""
    direction = rays[..., 3:]
    across = (direction[..., :, 1:, :] - direction[..., :, :-1, :]).norm(dim=-1)
    return F.pad(across.flatten(0, -3)[:, None], (0, 1, 0, 0), mode="replicate")[:, 0].view(rays.shape[:-1])
