"""A small image encoder in place of DINOv2, and image features at the anchors of a variation field.

Not in the paper, which uses DINOv2's patch tokens alone. Here a convolutional network is trained together with a small
transformer, and each anchor also gets what the images show where it projects to: the features of its frame and of the first
frame, and how well the first frame's feature matches its surroundings in each frame.

Source: The correlation pyramid and its lookup are those of RAFT (Teed and Deng, ECCV 2020), at points instead of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...scene import Cameras


@dataclass(frozen=True)
class ImageEncoderShape:
    """Architecture of the encoder.

    Args:
        image_size: Width and height of the images, a multiple of 8.
        channels: Channels of the feature maps, of half the image's size.
        token_channels: Channels of an image token; there are (image_size / 8)² tokens.
        projected_channels: Channels of the features at an anchor.
        levels: Levels of the correlation pyramid.
        reach: Cells around an anchor that its correlation covers, to each side and at each level.
    """

    image_size: int = 64
    channels: int = 32
    token_channels: int = 96
    projected_channels: int = 128
    levels: int = 3
    reach: int = 4


class ImageEncoder(nn.Module):
    """Image tokens of a video, and its features at the projections of anchors.

    Args:
        shape: The architecture.

    Example:
        tokens, projected = encoder(images, anchors, config.camera.cameras())
        conditions = Conditions(tokens, canonical_tokens, anchors, projected)
    """

    def __init__(self, shape: ImageEncoderShape = ImageEncoderShape()) -> None:
        super().__init__()
        self.shape = shape
        c = shape.channels
        self.stem = nn.Conv2d(3, c, 5, stride=2, padding=2)
        self.residual = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(4, c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1)) for _ in range(2)
        )
        self.to_tokens = nn.Sequential(
            nn.Conv2d(2 * c, 2 * c, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * c, shape.token_channels, 4, stride=2, padding=1),
        )
        tokens = (shape.image_size // 8) ** 2
        self.token_positions = nn.Parameter(0.02 * torch.randn(tokens, shape.token_channels))
        window = (2 * shape.reach + 1) ** 2
        self.to_projected = nn.Sequential(
            nn.Linear(2 * c + shape.levels * window, 2 * shape.projected_channels),
            nn.SiLU(),
            nn.Linear(2 * shape.projected_channels, shape.projected_channels),
        )

    def forward(self, images: Tensor, anchors: Tensor, camera: Cameras) -> tuple[Tensor, Tensor]:
        """Encode a video.

        Args:
            images: [B, T, S, S, 3] in 0..1 on white; frame 0 shows the canonical splat.
            anchors: World positions [B, N, 3].
            camera: The camera of all images, one view.

        Returns:
            Image tokens [B, T, L, token_channels] and features at the anchors [B, T, N, projected_channels].
        """
        maps = self.maps(images)
        first = maps[:, :1].expand_as(maps)
        tokens = self.to_tokens(torch.cat([maps, first], dim=2).flatten(0, 1))
        tokens = tokens.flatten(2).transpose(1, 2) + self.token_positions
        return tokens.unflatten(0, maps.shape[:2]), self._at(maps, anchors, camera)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [B, T, C, S/2, S/2]."""
        x = self.stem(images.flatten(0, 1).permute(0, 3, 1, 2) - 0.5)
        for block in self.residual:
            x = x + block(x)
        return x.unflatten(0, images.shape[:2])

    def _at(self, maps: Tensor, anchors: Tensor, camera: Cameras) -> Tensor:
        (batch, frames, channels), width = maps.shape[:3], maps.shape[-1]
        pixels, _ = camera.project(anchors.reshape(-1, 3), 0)
        # cells of the maps, corner-origin as pixels are
        place = (pixels * (width / camera.sizes[0][0])).reshape(batch, -1, 2).to(maps)
        first = _sampled(maps[:, 0], place)
        each = place[:, None].expand(-1, frames, -1, -1).flatten(0, 1)
        now = _sampled(maps.flatten(0, 1), each).unflatten(0, (batch, frames))
        parts = [now, first[:, None].expand_as(now)]
        match = torch.einsum("bnc,btchw->btnhw", first, maps) / channels**0.5
        match = match.flatten(0, 2)[:, None]
        offsets = torch.arange(-self.shape.reach, self.shape.reach + 1, device=maps.device).to(maps)
        window = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1).reshape(-1, 2)
        around = each.flatten(0, 1)[:, None]
        for level in range(self.shape.levels):
            found = _sampled(match, around / 2**level + window)
            parts.append(found[..., 0].unflatten(0, (batch, frames, -1)))
            match = F.avg_pool2d(match, 2)
        return self.to_projected(torch.cat(parts, dim=-1))


def _sampled(maps: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples [B, M, C] of maps [B, C, H, W] at places [B, M, 2] in cells, corner-origin; 0 outside."""
    height, width = maps.shape[-2:]
    grid = 2 * places / places.new_tensor([width, height]) - 1
    return F.grid_sample(maps, grid[:, :, None], align_corners=False)[..., 0].transpose(1, 2)
