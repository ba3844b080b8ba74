"""What the generation of a variation field is conditioned on, and the statistics that standardize it.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.2 and released code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .anchors import farthest_points

# canonical Gaussians that the transformer sees
CANONICAL_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of B samples with T frames and N anchors.

    Args:
        image_tokens: [B, T, L, image_cond_channels]; DINOv2's patches of each frame, then its class token.
        canonical_tokens: Standardized Gaussian vectors [B, S, 14].
        anchors: Positions [B, N, 3] from which the transformer's position code is made; see `Statistics.anchors`.
        projected: Image features at the anchors' projections [B, T, N, projected_channels], for a transformer that takes
            them (not in the paper); None: none.
    """

    image_tokens: Tensor
    canonical_tokens: Tensor
    anchors: Tensor
    projected: Tensor | None = None

    def without_images(self) -> Conditions:
        """The same with image tokens of zero, as a tenth of the training saw them."""
        projected = None if self.projected is None else torch.zeros_like(self.projected)
        return replace(self, image_tokens=torch.zeros_like(self.image_tokens), projected=projected)

    def empty(self) -> Conditions:
        """Anchors alone: image and canonical tokens of zero."""
        return replace(self.without_images(), canonical_tokens=torch.zeros_like(self.canonical_tokens))

    @staticmethod
    def concatenate(parts: list[Conditions]) -> Conditions:
        """All samples of `parts` in order."""
        projected = [p.projected for p in parts if p.projected is not None]
        return Conditions(
            torch.cat([p.image_tokens for p in parts]),
            torch.cat([p.canonical_tokens for p in parts]),
            torch.cat([p.anchors for p in parts]),
            torch.cat(projected) if projected else None,
        )


@dataclass(frozen=True, eq=False)
class Statistics:
    """Means and standard deviations over the training set.

    Args:
        static_mean: Of Gaussian vectors, [14].
        static_std: [14].
        deformation_mean: Of variation-field latents, [C].
        deformation_std: [C].
    """

    static_mean: Tensor
    static_std: Tensor
    deformation_mean: Tensor
    deformation_std: Tensor

    def canonical_tokens(self, vectors: Tensor, count: int = CANONICAL_TOKENS) -> Tensor:
        """Standardized vectors [min(count, N), 14] of farthest-point-sampled Gaussians out of [N, 14]."""
        chosen = vectors[farthest_points(vectors[:, :3], min(count, len(vectors)))]
        return (chosen - self.static_mean) / self.static_std

    def anchors(self, positions: Tensor, standardized: bool = False) -> Tensor:
        """Anchor positions [..., 3] as the transformer takes them.

        Args:
            positions: World positions [..., 3].
            standardized: As in the released training code; otherwise unchanged, as in the released inference.
        """
        return (positions - self.static_mean[:3]) / self.static_std[:3] if standardized else positions

    def latents(self, standardized: Tensor) -> Tensor:
        """Latents [..., C] for the VAE's decoder, from generated ones."""
        return standardized * self.deformation_std + self.deformation_mean

    def standardized(self, latents: Tensor) -> Tensor:
        """The inverse of `latents`."""
        return (latents - self.deformation_mean) / self.deformation_std
