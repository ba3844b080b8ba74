"""The two heads of the reconstruction model: canonical Gaussians of a frame, and their deformation at query times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import LdrmConfig
from .gaussian_maps import DEFORMATION_CHANNELS, GAUSSIAN_CHANNELS
from .matching import CHANNELS as LIFTED
from .matching import MatchFeatures, cell_centers
from .upsample import time_codes

TIME_CHANNELS = 20


class GaussianHead(nn.Module):
    """Channels of the Gaussian of each cell: convolution, GELU, linear.

    Args:
        channels: Input channels.
        config: Hidden channels and lifetimes.
    """

    def __init__(self, channels: int, config: LdrmConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, config.head_channels, 3, padding=1)
        self.out = nn.Conv2d(config.head_channels, GAUSSIAN_CHANNELS + config.lifetimes, 1)
        with torch.no_grad():
            # near the biases of the activations, but not on them: colors and shapes start to differ at once
            self.out.weight.mul_(0.1)
            self.out.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, h, w, 12 or 13]."""
        return self.out(F.gelu(self.conv(x))).permute(0, 2, 3, 1)


@dataclass(frozen=True, eq=False)
class Matches:
    """Where a query frame shows each cell: (x, y) in 0..1 [B, A, h, w, 2], similarity and certainty [B, A, h, w, 2]."""

    pixels: Tensor
    quality: Tensor


class DeformationHead(nn.Module):
    """Δμ, Δq, Δs of each cell at a query time; before training, the identity.

    Args:
        channels: Input channels.
        config: Hidden channels and correspondences.
    """

    def __init__(self, channels: int, config: LdrmConfig) -> None:
        super().__init__()
        hidden = config.head_channels
        self.config = config
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.time = nn.Linear(2 * TIME_CHANNELS, hidden)
        trusted = 0
        if config.correspondences != "none":
            self.lifted = nn.Conv2d(LIFTED, hidden, 3, padding=1)
            trusted = 2
        if config.correspondences == "correlation":
            self.match = MatchFeatures(channels, config.match_channels)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, DEFORMATION_CHANNELS + trusted, 1)
        with torch.no_grad():
            self.out.weight.zero_()
            bias = torch.zeros(DEFORMATION_CHANNELS + trusted)
            # w of Δq
            bias[3] = 1
            self.out.bias.copy_(bias)  # pyright: ignore[reportOptionalMemberAccess]

    def compare(self, own: Tensor, other: Tensor) -> Matches:
        """Match by correlation.

        Args:
            own: Features of A frames from `match` [B, A, h, w, C].
            other: Those of the query frame [B, h, w, C].
        """
        pool = self.config.match_pool
        rows, columns = own.shape[2:4]
        small, far = _pooled(own, pool), _pooled(other[:, None], pool)[:, 0]
        h, w = small.shape[2:4]
        cells = cell_centers(h, w, own.device).to(own)
        wide = cells * cells.new_tensor([1, h / w])
        own_cells, far_cells = small.flatten(2, 3), far.flatten(1, 2)
        logits = self.match.logits(own_cells, far_cells, wide, wide)
        weights = logits.softmax(dim=-1)
        seen = weights @ torch.cat([cells.expand(len(far_cells), -1, -1), far_cells], dim=-1)[:, None]
        where = seen[..., :2] - cells
        similar = (own_cells * seen[..., 2:]).sum(-1)
        quality = torch.stack([similar, weights.detach().amax(-1)], dim=-1)
        found = torch.cat([where, quality], dim=-1).unflatten(2, (h, w))
        if pool > 1:
            flat = found.flatten(0, 1).permute(0, 3, 1, 2)
            flat = F.interpolate(flat, (rows, columns), mode="bilinear", align_corners=False)
            found = flat.permute(0, 2, 3, 1).unflatten(0, own.shape[:2])
        centers = cell_centers(rows, columns, own.device).to(own).view(rows, columns, 2)
        return Matches(found[..., :2] + centers, found[..., 2:])

    def base(self, x: Tensor) -> Tensor:
        """What does not depend on the query time: [N, C, h, w] to [N, hidden, h, w]."""
        return self.conv(x)

    def forward(self, base: Tensor, own: Tensor, query: Tensor, lifted: Tensor | None) -> Tensor:
        """Deformation channels at one query time.

        Args:
            base: From `base` [B, A, hidden, h, w].
            own: The frame of each map [A].
            query: The query time in frames, [].
            lifted: [B, A, h, w, 8], with correspondences; see `matching.lifted`.

        Returns:
            [B, A, h, w, 10].
        """
        code = self.time(time_codes(query.view(1), own, TIME_CHANNELS)[:, 0].to(base))
        x = (base + code[:, :, None, None]).flatten(0, 1)
        if lifted is not None:
            # shifts of a tenth of a unit are usual
            seen = torch.cat([10 * lifted[..., :6], lifted[..., 6:]], dim=-1)
            x = x + self.lifted(seen.flatten(0, 1).permute(0, 3, 1, 2))
        x = F.gelu(x)
        x = F.gelu(self.mix(x) + x)
        out = self.out(x).permute(0, 2, 3, 1).unflatten(0, base.shape[:2])
        if lifted is None:
            return out
        trust = out[..., DEFORMATION_CHANNELS:]
        shift = trust[..., :1] * lifted[..., :3] + trust[..., 1:] * lifted[..., 3:6]
        return torch.cat([out[..., :3] + shift, out[..., 3:DEFORMATION_CHANNELS]], dim=-1)


def _pooled(x: Tensor, pool: int) -> Tensor:
    """Means of pool × pool cells of unit features [B, A, h, w, C], of unit length again."""
    if pool == 1:
        return x
    flat = F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), pool)
    return F.normalize(flat.permute(0, 2, 3, 1), dim=-1).unflatten(0, x.shape[:2])
