"""The variation-field VAE of GVFDiffusion: mesh motion to latents at anchors, and latents to deltas of every Gaussian.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.1 and released code (GSKLTemporalVariationalAutoEncoder); the
architecture follows 3DShape2VecSet (Zhang et al., SIGGRAPH 2023). Changed: anchors start at Gaussian 0 instead of at random,
and deltas are decoded frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import Attention, GegluFeedForward, LayerNorm, PointPositionCode, PreNorm, zeroed
from .anchors import NEIGHBORS, SHARPNESS, farthest_points, interpolate_displacements
from .deltas import CHANNELS

# channel of a Gaussian vector that holds the quaternion's w
_QUAT_W = 10
# range of the latents' log variance
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class VariationVaeShape:
    """Architecture of the variation-field VAE; the defaults are the published model's (125.2 M parameters).

    Nothing in it depends on the number of frames T, surface points N or Gaussians.

    Args:
        depth: Self-attention layers of the decoder.
        dim: Channels of the tokens, a multiple of 6.
        num_latents: Anchors L.
        latent_dim: Channels C of a latent.
        heads: Attention heads.
        output_dim: Channels of a delta; see `deltas.PARTS`.
        knn_k: Surface points that move an anchor.
        beta: How fast their weights fall with the distance.
        motion_queries: The encoder's queries hold the motion of their anchors, as published; False (static queries) only
            for the ablation.
        appearance_input: The encoder also sees changes of the surface's color (3 DC coefficients) and opacity (1 logit).
            Not in the paper, whose encoder sees displacements alone, so that a glow without motion is lost.
        anchor_positions: The decoder's tokens also hold the positions of their anchors. Not in the paper, whose latents must
            carry positions and motion; a small model then spends most of its training on positions that are known.
    """

    depth: int = 12
    dim: int = 768
    num_latents: int = 512
    latent_dim: int = 16
    heads: int = 12
    output_dim: int = CHANNELS
    knn_k: int = NEIGHBORS
    beta: float = SHARPNESS
    motion_queries: bool = True
    appearance_input: bool = False
    anchor_positions: bool = False

    @property
    def input_dim(self) -> int:
        """Channels of a surface point's change."""
        return 7 if self.appearance_input else 3


@dataclass(frozen=True, eq=False)
class Posterior:
    """Gaussian distribution of the latents of B samples and T frames.

    Args:
        mean: [B, T, L, C].
        logvar: Logarithm of the variance as the network gave it, [B, T, L, C].
        anchors: Index of each anchor among the Gaussians of its sample, [B, L].
    """

    mean: Tensor
    logvar: Tensor
    anchors: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Latents for standard normal noise [B, T, L, C]."""
        return self.mean + torch.exp(0.5 * self.logvar.clamp(*LOGVAR_RANGE)) * noise

    def kl(self) -> Tensor:
        """KL divergence from the standard normal distribution of each frame [B, T]: mean over tokens and channels."""
        logvar = self.logvar.clamp(*LOGVAR_RANGE)
        return 0.5 * (self.mean.square() + logvar.exp() - 1 - logvar).mean(dim=(-2, -1))


def padded(vectors: Sequence[Tensor]) -> Tensor:
    """Gaussian vectors [N_b, 14] of B samples as one batch [B, max N, 14]; missing ones are zero with quaternion (1, 0, 0, 0)."""
    most = max(len(v) for v in vectors)
    batch = vectors[0].new_zeros(len(vectors), most, vectors[0].shape[-1])
    batch[..., _QUAT_W] = 1
    for row, vector in zip(batch, vectors, strict=True):
        row[: len(vector)] = vector
    return batch


class VariationVae(nn.Module):
    """Encodes the motion of a mesh at anchors on a splat, and decodes it to changes of every Gaussian.

    Gaussian vectors are those of `RawGaussians.vector`: position (3), color (3), opacity, size (3), quaternion (4).
    Coordinates are in the box from −0.5 to 0.5.

    Args:
        shape: The architecture.

    Source:
        GVFDiffusion, section 3.1.

    Example:
        deltas = vae.decode(latents, raw.vector()[None])[0]
        changes = canonical_changes(raw, deltas)
    """

    def __init__(self, shape: VariationVaeShape = VariationVaeShape()) -> None:
        super().__init__()
        self.shape = shape
        dim = shape.dim
        self.cross_attend_blocks = nn.ModuleList(
            [
                PreNorm(Attention(dim, shape.heads, dim, qkv_bias=False), dim, dim),
                PreNorm(GegluFeedForward(dim), dim),
            ]
        )
        # the norms that end embeddings have torch's default epsilon
        self.input_embedding = nn.Sequential(nn.Linear(shape.input_dim, dim), LayerNorm(dim, eps=1e-5))
        self.gs_embedding = nn.Sequential(nn.Linear(14, dim), LayerNorm(dim, eps=1e-5))
        self.position_encoding = nn.Sequential(PointPositionCode(dim), LayerNorm(dim, eps=1e-5))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(Attention(dim, shape.heads, dim, qkv_bias=False), dim),
                    PreNorm(GegluFeedForward(dim), dim),
                ]
            )
            for _ in range(shape.depth)
        )
        self.decoder_cross_attn = PreNorm(Attention(dim, shape.heads, dim, qkv_bias=False), dim, dim)
        self.to_outputs = zeroed(nn.Linear(dim, shape.output_dim))
        self.proj = nn.Linear(shape.latent_dim, dim)
        self.mean_fc = nn.Linear(dim, shape.latent_dim)
        self.logvar_fc = nn.Linear(dim, shape.latent_dim)

    def encode(self, points: Tensor, displacements: Tensor, vectors: Sequence[Tensor]) -> Posterior:
        """Encode the motion of surface points.

        Args:
            points: Surface points of the first frame [B, N, 3].
            displacements: Against the first frame [B, T, N, 3]; with `appearance_input` [B, T, N, 7], changes of color and
                opacity last.
            vectors: Canonical Gaussians [N_b, 14] of each sample.

        Returns:
            The distribution of the latents [B, T, L, C].

        Raises:
            InputError: A sample has fewer Gaussians than the model has anchors.
        """
        positions = [v[:, :3] for v in vectors]
        index = torch.stack([farthest_points(p, self.shape.num_latents) for p in positions])
        anchors = torch.stack([p[i] for p, i in zip(positions, index, strict=True)])
        moved = torch.stack(
            [
                interpolate_displacements(d, p, a, self.shape.knn_k, self.shape.beta)
                for d, p, a in zip(displacements, points, anchors, strict=True)
            ]
        )
        mean, logvar = self.encode_at(points, displacements, anchors, moved)
        return Posterior(mean, logvar, index)

    def encode_at(
        self, points: Tensor, displacements: Tensor, anchors: Tensor, moved: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode at known anchors; see `encode`.

        Args:
            points: Surface points of the first frame [B, N, 3].
            displacements: Against the first frame [B, T, N, 3 or 7].
            anchors: Positions [B, L, 3].
            moved: The surface's change at the anchors [B, T, L, 3 or 7].

        Returns:
            Mean and log variance of the latents, [B, T, L, C] each.
        """
        tokens = self.position_encoding(anchors)[:, None].expand(-1, displacements.shape[1], -1, -1)
        if self.shape.motion_queries:
            tokens = self.input_embedding(moved) + tokens
        context = self.input_embedding(displacements) + self.position_encoding(points)[:, None]
        tokens, context = tokens.flatten(0, 1), context.flatten(0, 1)
        attend, feed_forward = self.cross_attend_blocks
        tokens = attend(tokens, context) + tokens
        tokens = feed_forward(tokens) + tokens
        tokens = tokens.unflatten(0, displacements.shape[:2])
        return self.mean_fc(tokens), self.logvar_fc(tokens)

    def decode(
        self, latents: Tensor, vectors: Tensor, chunk: int = 8192, anchors: Tensor | None = None
    ) -> Tensor:
        """Decode latents to changes of Gaussians, for `deltas.canonical_changes`.

        Args:
            latents: [B, T, L, C].
            vectors: Gaussians [B, N, 14]; see `padded`.
            chunk: Gaussians that are decoded at a time; fewer need less memory.
            anchors: Positions [B, L, 3] of the anchors, used with `anchor_positions` only; None: those of `vectors`, which
                must then be whole splats.

        Returns:
            Deltas [B, T, N, output_dim].
        """
        tokens = self.proj(latents)
        if self.shape.anchor_positions:
            if anchors is None:
                places = [v[farthest_points(v[:, :3], self.shape.num_latents), :3] for v in vectors]
                anchors = torch.stack(places)
            tokens = tokens + self.position_encoding(anchors)[:, None]
        tokens = tokens.flatten(0, 1)
        for attend, feed_forward in self.layers:  # pyright: ignore[reportGeneralTypeIssues]
            tokens = attend(tokens) + tokens
            tokens = feed_forward(tokens) + tokens
        tokens = tokens.unflatten(0, latents.shape[:2])
        parts: list[Tensor] = []
        for some in vectors.split(chunk, dim=1):
            query = self.gs_embedding(some) + self.position_encoding(some[..., :3])
            frames = [self.to_outputs(self.decoder_cross_attn(query, frame)) for frame in tokens.unbind(1)]
            parts.append(torch.stack(frames, dim=1))
        return torch.cat(parts, dim=2)
