"""The network: distances of the first frame, the frame warped along the path by them, and a flow that corrects the warp.

Source: flow matching (Lipman et al. 2023) that predicts the clean video, as pixels need it (Li and He, "Back to basics: let
denoising generative models denoise", 2025). Ours: the prediction is the warped first frame, moved by a flow in the image and
corrected, so that a small network has to find distances, hidden surfaces and motion only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import TimestepEmbedding, TransformerBlock, position_code
from ..reconstruction.tokens import fold, latents_to_pixels, pixels_to_latents
from .config import CameraVideoConfig
from .warp import filled_holes, warped

# channels per pixel that the tokens give the convolutions
TOKEN_PIXELS = 8
# part of the image's size that one unit of flow moves
REACH = 0.1
# expected square of what the warped frame lacks, in latents of -1..1
LACKING = 0.04
# flow times are given to the embedding as thousandths
TIMES = 1000.0


class ConvBlock(nn.Module):
    """Two convolutions around a shortcut: [N, C, H, W] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.gelu(self.conv(self.norm(x))))


class DepthHead(nn.Module):
    """Distances of an image's pixels: a small U-Net with attention at its coarsest level.

    Args:
        config: Channels and blocks.
    """

    def __init__(self, config: CameraVideoConfig) -> None:
        super().__init__()
        channels = config.depth_channels
        self.first = nn.Conv2d(6, channels[0], 3, padding=1)
        self.down = nn.ModuleList(ConvBlock(c) for c in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(channels))
        self.blocks = nn.ModuleList(
            TransformerBlock(channels[-1], config.depth_heads) for _ in range(config.depth_blocks)
        )
        self.grow = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in itertools.pairwise(channels))
        self.up = nn.ModuleList(ConvBlock(c) for c in channels[:-1])
        self.out = nn.Conv2d(channels[0], 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, image: Tensor, directions: Tensor) -> Tensor:
        """Log distances, relative to `distance` of the configuration.

        Args:
            image: [B, H, W, 3] in 0..1; sides that are multiples of 8.
            directions: Unit rays [B, H, W, 3].

        Returns:
            [B, H, W].
        """
        x = self.first(torch.cat([2 * image - 1, directions], dim=-1).permute(0, 3, 1, 2))
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x)
            if i < len(self.shrink):
                skips.append(x)
                x = self.shrink[i](x)
        size = x.shape[-2:]
        axes = [torch.arange(side, device=x.device) for side in (1, *size)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
        tokens = x.flatten(2).mT + position_code(grid, x.shape[1]).to(x)
        for block in self.blocks:
            tokens = block(tokens)
        x = tokens.mT.unflatten(2, size)
        for i in reversed(range(len(skips))):
            x = F.interpolate(x, skips[i].shape[-2:], mode="bilinear", align_corners=False)
            x = self.up[i](self.grow[i](torch.cat([skips[i], x], dim=1)))
        return self.out(x)[:, 0]


@dataclass(frozen=True, eq=False)
class Guess:
    """The path's frames by warping alone.

    Args:
        log_distances: Of the first frame, relative to the configuration's distance [B, H, W].
        frames: The first frame warped, holes filled [B, T, H, W, 3].
        visible: Whether the first frame saw a pixel [B, T, H, W].
    """

    log_distances: Tensor
    frames: Tensor
    visible: Tensor


class CameraVideo(nn.Module):
    """Latents of a video from its first frame and the Plücker rays of its path, by flow matching.

    Args:
        config: The architecture.

    Example:
        guess = model.guess(image, rays)
        clean = model(noise, torch.ones(1), guess, rays)
    """

    def __init__(self, config: CameraVideoConfig = CameraVideoConfig()) -> None:
        super().__init__()
        self.config = config
        latent = config.latent
        cell = latent.time_factor * latent.space_factor**2
        self.depth = DepthHead(config)
        # scaled noisy video, warped video, visibility, rays of the cell
        self.embed = nn.Linear(2 * latent.channels + cell + 6 * latent.time_factor, config.width)
        self.time = TimestepEmbedding(config.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads, config.mlp_ratio) for _ in range(config.blocks)
        )
        self.spread = nn.Linear(config.width, TOKEN_PIXELS * cell)
        hidden = config.pixel_channels
        self.pixels = nn.Sequential(
            nn.Conv2d(TOKEN_PIXELS + 7, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.GELU(),
        )
        # colors, and where in the warped frame a pixel comes from
        self.out = nn.Conv2d(hidden, 5, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def guess(self, image: Tensor, rays: Tensor) -> Guess:
        """Warp the first frame along the path; gradients reach the distances only.

        Args:
            image: The first frame [B, H, W, 3] in 0..1.
            rays: [B, T, H, W, 6], relative to the first camera.
        """
        log_distances = self.depth(image, rays[:, 0, ..., 3:])
        with torch.no_grad():
            distances = self.config.distance * log_distances.clamp(-4, 4).exp()
            frames, visible = warped(image, distances, rays)
            shape = frames.shape[:2]
            filled = filled_holes(frames.flatten(0, 1), visible.flatten(0, 1)).unflatten(0, shape)
        return Guess(log_distances, filled, visible)

    def forward(self, noisy: Tensor, time: Tensor, guess: Guess, rays: Tensor) -> Tensor:
        """The clean latents.

        Args:
            noisy: (1 − t) z_0 + t ε [B, C, n, h, w].
            time: t in 0..1 [B].
            guess: Of the same image and path.
            rays: [B, T, H, W, 6].

        Returns:
            z_0 [B, C, n, h, w]; the first frame is the image.
        """
        latent = self.config.latent
        time_factor, space = latent.time_factor, latent.space_factor
        base = pixels_to_latents(guess.frames, latent)
        change = _scaled(noisy, base, time)
        visible = fold(guess.visible[..., None], time_factor, space)
        means = F.avg_pool2d(rays.flatten(0, 1).permute(0, 3, 1, 2), space).permute(0, 2, 3, 1)
        cells = fold(means.unflatten(0, rays.shape[:2]), time_factor, 1)
        parts = [change.permute(0, 2, 3, 4, 1), base.permute(0, 2, 3, 4, 1), visible, cells]
        x = self.embed(torch.cat(parts, dim=-1))
        axes = [torch.arange(size, device=x.device) for size in x.shape[1:4]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        x = x + position_code(grid, x.shape[-1]).to(x) + self.time(TIMES * time)[:, None, None, None]
        shape = x.shape[1:4]
        x = x.flatten(1, 3)
        for block in self.blocks:
            x = block(x)
        # back to pixels: the same layout as latents, with more channels
        spread = self.spread(x).unflatten(1, shape).unflatten(-1, (time_factor, space, space, TOKEN_PIXELS))
        spread = spread.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
        given = [
            spread[:, time_factor - 1 :],
            2 * guess.frames - 1,
            guess.visible[..., None],
            2 * latents_to_pixels(change, latent) - 1,
        ]
        planes = torch.cat(given, dim=-1).flatten(0, 1).permute(0, 3, 1, 2)
        change = self.out(self.pixels(planes)).permute(0, 2, 3, 1).unflatten(0, guess.frames.shape[:2])
        moved = _moved(guess.frames[:, 1:], REACH * change[:, 1:, ..., 3:])
        # the first frame is known
        return pixels_to_latents(
            torch.cat([guess.frames[:, :1], moved + change[:, 1:, ..., :3]], dim=1), latent
        )

    def velocity(self, noisy: Tensor, time: Tensor, guess: Guess, rays: Tensor) -> Tensor:
        """ε − z_0 of a flow sampler; arguments as `forward`, times above 0."""
        clean = self(noisy, time, guess, rays)
        return (noisy - clean) / time.view(-1, 1, 1, 1, 1)


def _scaled(noisy: Tensor, base: Tensor, time: Tensor) -> Tensor:
    """What noisy latents say of z_0 − base: of unit variance, faded with the signal, so that at time 1 it is nothing.

    The noise at time 1 says nothing, and the network would have to learn to remove it.
    """
    t = time.view(-1, 1, 1, 1, 1)
    signal = 1 - t
    return (noisy - signal * base) * (signal / (signal.square() * LACKING + t.square()).sqrt())


def _moved(frames: Tensor, shifts: Tensor) -> Tensor:
    """Frames [B, T, H, W, 3] whose pixels come from elsewhere: by shifts [B, T, H, W, 2], (x, y) in parts of the image."""
    height, width = frames.shape[2:4]
    x = (torch.arange(width, device=frames.device) + 0.5) / width
    y = (torch.arange(height, device=frames.device) + 0.5) / height
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    where = 2 * (here + shifts) - 1
    planes = frames.flatten(0, 1).permute(0, 3, 1, 2)
    found = F.grid_sample(planes, where.flatten(0, 1), padding_mode="border", align_corners=False)
    return found.permute(0, 2, 3, 1).unflatten(0, frames.shape[:2])
