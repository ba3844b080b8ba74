"""Where the points of a frame are in another one: correlation of learned features, or given flow, lifted into space.

Not in the paper, whose deformation head must find motion in the tokens. With correspondences, motion is a choice: a point
moved to what its match shows (`lifted`), and the head learns how far to believe it.

Source: matching by a softmax over all cells follows GMFlow (Xu et al., CVPR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# channels of `lifted`: shift to the match's ray, shift to the match's point, similarity, certainty
CHANNELS = 8


class MatchFeatures(nn.Module):
    """Features [..., h, w, C] that are equal where frames show the same point, and how they are compared.

    Args:
        channels: Input channels.
        features: Channels C.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * features, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * features, features, 3, padding=1)
        # logits per unit of cosine similarity, and per squared image width between the cells
        self.sharpness = nn.Parameter(torch.tensor(3.0))
        self.nearness = nn.Parameter(torch.tensor(2.3))

    def forward(self, x: Tensor) -> Tensor:
        """Features of maps [N, C, h, w] as unit vectors [N, h, w, features]."""
        x = self.conv2(F.gelu(self.conv1(x)))
        return F.normalize(x.permute(0, 2, 3, 1), dim=-1)

    def logits(self, own: Tensor, other: Tensor, places: Tensor, other_places: Tensor) -> Tensor:
        """Compare cells of A frames with cells of one: sharpness · cosine − nearness · squared distance.

        Args:
            own: [B, A, M, C].
            other: [B, N, C].
            places: Centers of the cells of `own` (x, y) in image widths [M, 2].
            other_places: Those of `other` [N, 2].

        Returns:
            Logits [B, A, M, N], up to a constant for each cell of `own`.
        """
        nearness = self.nearness.exp()
        # one product for both terms: −|a − b|² = 2ab − b² − a², and a² does not change a softmax
        place = torch.cat([2 * places, -torch.ones_like(places[:, :1])], dim=-1) * nearness
        square = other_places.square().sum(-1, keepdim=True)
        queries = torch.cat([self.sharpness.exp() * own, place.expand(*own.shape[:2], -1, -1)], dim=-1)
        keys = torch.cat(
            [other, torch.cat([other_places, square], dim=-1).expand(len(other), -1, -1)], dim=-1
        )
        return queries.flatten(1, 2).bmm(keys.transpose(1, 2)).unflatten(1, own.shape[1:3])


def cell_centers(rows: int, columns: int, device: torch.device) -> Tensor:
    """(x, y) of cells in 0..1 [rows · columns, 2]."""
    y, x = torch.meshgrid(
        (torch.arange(rows, device=device) + 0.5) / rows,
        (torch.arange(columns, device=device) + 0.5) / columns,
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def sampled(maps: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values of maps [B, h, w, C] at (x, y) in 0..1 [B, ..., 2]: [B, ..., C]."""
    flat = pixels.reshape(len(maps), 1, -1, 2) * 2 - 1
    found = F.grid_sample(maps.permute(0, 3, 1, 2), flat.to(maps), padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2).reshape(*pixels.shape[:-1], maps.shape[-1])


def lifted(means: Tensor, pixels: Tensor, rays: Tensor, points: Tensor, quality: Tensor) -> Tensor:
    """What a match in one query frame says of the motion of Gaussians.

    Args:
        means: Where the Gaussians are [B, A, h, w, 3].
        pixels: Where the query frame shows them, (x, y) in 0..1 [B, A, h, w, 2].
        rays: Plücker rays of the query frame [B, h', w', 6].
        points: The model's own points of the query frame [B, h, w, 3].
        quality: Similarity and certainty [B, A, h, w, 2].

    Returns:
        [B, A, h, w, 8]: the shortest shift onto the matched pixel's ray, the shift to the matched point, and `quality`.
    """
    moment, direction = sampled(rays, pixels).split(3, dim=-1)
    length = direction.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    moment, direction = moment / length, direction / length
    along = (direction * means).sum(-1, keepdim=True)
    onto = torch.linalg.cross(direction, moment) + direction * along
    return torch.cat([onto - means, sampled(points, pixels) - means, quality], dim=-1)
