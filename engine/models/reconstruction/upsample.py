"""From tokens to the video's own grid: a small MLP and 3-D transposed convolutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import LayerNorm
from .config import LdrmConfig


class TokenMlp(nn.Module):
    """Norm, Linear and GELU on tokens [..., C] before they are upsampled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels, affine=True)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.linear(self.norm(x)))


class Upsampler(nn.ModuleList):
    """Tokens [B, n, h, w, C] to features of 4(n − 1) + 1 frames at the video's resolution (for a time factor of 4).

    Stage 0 is the MLP, each further one a transposed convolution that doubles the image size. The first of them double the
    frames too, each frame in two; the frames before the first one, which come of its repetition in the tokens, are cut off.
    The last stage does not overlap, so that a stride computes only what is kept.

    Args:
        config: Width, factors and channels.

    Source:
        Diff4Splat (2025), section 3: "3D deconvolution"; kernels are ours.
    """

    def __init__(self, config: LdrmConfig) -> None:
        doubles_time = int(math.log2(config.latent.time_factor))
        stages: list[nn.Module] = [TokenMlp(config.width)]
        channels = config.width
        last = len(config.deconv_channels) - 1
        for i, after in enumerate(config.deconv_channels):
            time = 2 if i < doubles_time else 1
            space, padding = (4, 1) if i < last else (2, 0)
            stages.append(
                nn.ConvTranspose3d(
                    channels, after, (time, space, space), stride=(time, 2, 2), padding=(0, padding, padding)
                )
            )
            channels = after
        super().__init__(stages)
        self.doubles_time = doubles_time
        self.channels = channels

    def forward(self, tokens: Tensor, time_stride: int = 1, space_stride: int = 1) -> Tensor:
        """Upsample.

        Args:
            tokens: [B, n, h, w, C].
            time_stride: Every n-th frame is computed.
            space_stride: Every n-th row and column is computed.

        Returns:
            [B, frames, rows, columns, channels].
        """
        x = self[0](tokens).permute(0, 4, 1, 2, 3)
        for i in range(1, len(self)):
            stage = self[i]
            if i == self.doubles_time + 1:
                x = self._frames(x, time_stride)
            if i == len(self) - 1 and space_stride % 2 == 0 and i > self.doubles_time:
                # the kernel's corner makes every second row and column
                x = F.conv3d(x, stage.weight[..., :1, :1].transpose(0, 1), stage.bias)  # pyright: ignore
                x = x[..., :: space_stride // 2, :: space_stride // 2]
            else:
                x = stage(x)
                if i == len(self) - 1:
                    x = x[..., ::space_stride, ::space_stride]
            x = F.gelu(x)
        if self.doubles_time + 1 == len(self):
            x = self._frames(x, time_stride)
        return x.permute(0, 2, 3, 4, 1)

    def _frames(self, x: Tensor, stride: int) -> Tensor:
        return x[:, :, 2**self.doubles_time - 1 :: stride]


def time_codes(query: Tensor, own: Tensor, channels: int = 20) -> Tensor:
    """Sine codes of query times and of their distances from the Gaussians' own frames.

    Args:
        query: Query times [Q] in frames.
        own: Own frames [A].
        channels: Channels of each of the two codes.

    Returns:
        [A, Q, 2 · channels].
    """
    half = channels // 2
    # periods from 4 frames up to 256: motion in between is what a video of 9 to 49 frames shows
    frequencies = 2 * math.pi / torch.logspace(2, 8, half, base=2, device=query.device)
    values = torch.stack([query.expand(len(own), -1), query - own[:, None]], dim=-1).float()
    phases = values[..., None] * frequencies
    return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)
