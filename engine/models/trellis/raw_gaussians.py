"""Gaussians as TRELLIS and GVFDiffusion parametrize them, and what decoded features of voxels mean.

Source: TRELLIS (Xiang et al., CVPR 2025), section 3.2 and released code (SLatGaussianDecoder, GaussianModel).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...scene import ActivatedGaussians, Gaussians


@dataclass(frozen=True)
class GaussianFormat:
    """How features become Gaussians; the defaults are the published models'.

    Args:
        count: Gaussians per voxel: 32 in TRELLIS, 8 in GVFDiffusion.
        voxel_size: Reach of a Gaussian around its voxel, in voxels.
        rotation_multiplier: Factor of the rotation's features; all other features have 1.
        scale_bias: Size of a Gaussian with a raw scale of zero.
        min_scale: Added to sizes as by a 3D filter (Mip-Splatting, Yu et al., CVPR 2024).
        opacity_bias: Opacity of a Gaussian with a raw opacity of zero.
    """

    count: int = 32
    voxel_size: float = 1.5
    rotation_multiplier: float = 0.1
    scale_bias: float = 0.004
    min_scale: float = 0.0009
    opacity_bias: float = 0.1

    @property
    def channels(self) -> int:
        """Features per voxel: 14 per Gaussian."""
        return 14 * self.count


@dataclass(frozen=True, eq=False)
class RawGaussians:
    """N Gaussians before activation, in TRELLIS' own parameters.

    Sizes are √(softplus(scale + softplus⁻¹(bias))² + min²), rotations normalize(rotation + (1, 0, 0, 0)), opacities
    sigmoid(opacity + logit(bias)). World axes are z-up, in a box from −0.5 to 0.5.
    """

    means: Tensor  # [N, 3] world units
    colors: Tensor  # [N, 3] DC coefficients of spherical harmonics
    scales: Tensor  # [N, 3]
    rotations: Tensor  # [N, 4] wxyz, relative to the identity
    opacities: Tensor  # [N]
    format: GaussianFormat = GaussianFormat()

    def __len__(self) -> int:
        return len(self.means)

    def sizes(self, change: Tensor | float = 0.0) -> Tensor:
        """Linear sizes [..., N, 3].

        Args:
            change: Added to the raw scales, [..., N, 3].
        """
        bias = self.format.scale_bias + math.log(-math.expm1(-self.format.scale_bias))
        return (F.softplus(self.scales + bias + change).square() + self.format.min_scale**2).sqrt()

    def activated(self) -> ActivatedGaussians:
        """Linear sizes, unit quaternions and opacities in 0..1."""
        gaussians = self.to_gaussians()
        return ActivatedGaussians(
            means=self.means,
            quats=F.normalize(gaussians.quats, dim=-1),
            scales=self.sizes(),
            opacities=torch.sigmoid(gaussians.logit_opacities),
            sh=gaussians.sh,
        )

    def to_gaussians(self) -> Gaussians:
        """The same Gaussians as the scenes of this project store them, quaternions as long as they were."""
        return Gaussians(
            means=self.means,
            log_scales=self.sizes().log(),
            quats=self.rotations + self.rotations.new_tensor([1, 0, 0, 0]),
            logit_opacities=self.opacities + _logit(self.format.opacity_bias),
            sh=self.colors[:, None],
        )

    @staticmethod
    def from_gaussians(gaussians: Gaussians, form: GaussianFormat | None = None) -> RawGaussians:
        """The inverse of `to_gaussians`; of colors, only the DC coefficients are kept.

        Args:
            gaussians: N Gaussians in a box from −0.5 to 0.5, z-up.
            form: How features become Gaussians. Sizes below its `min_scale` become that size.
        """
        form = form or GaussianFormat()
        # sizes near the smallest are a difference of nearly equal numbers
        sizes = (gaussians.log_scales.double().exp().square() - form.min_scale**2).clamp(min=1e-24).sqrt()
        bias = form.scale_bias + math.log(-math.expm1(-form.scale_bias))
        scales = sizes + torch.log(-torch.expm1(-sizes)) - bias
        return RawGaussians(
            means=gaussians.means,
            colors=gaussians.sh[:, 0],
            scales=scales.to(gaussians.means.dtype),
            rotations=gaussians.quats - gaussians.quats.new_tensor([1, 0, 0, 0]),
            opacities=gaussians.logit_opacities - _logit(form.opacity_bias),
            format=form,
        )

    def vector(self) -> Tensor:
        """Activated values [N, 14] as GVFDiffusion takes them: mean, color, opacity, size, quaternion wxyz."""
        a = self.activated()
        return torch.cat([a.means, self.colors, a.opacities[:, None], a.scales, a.quats], dim=-1)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def offset_perturbation(count: int, voxel_size: float) -> Tensor:
    """Where the Gaussians of a voxel start, before tanh [count, 3]: a Hammersley sequence over the voxel."""

    def radical_inverse(n: int, base: int) -> float:
        value, digit = 0.0, 1.0 / base
        while n:
            n, rest = divmod(n, base)
            value, digit = value + rest * digit, digit / base
        return value

    points = [(n / count, radical_inverse(n, 2), radical_inverse(n, 3)) for n in range(count)]
    return torch.atanh((2 * torch.tensor(points, dtype=torch.float64) - 1) / voxel_size).float()


def decode_features(
    features: Tensor, cells: Tensor, resolution: int, perturbation: Tensor, form: GaussianFormat
) -> RawGaussians:
    """Gaussians of decoded features of one sample.

    Args:
        features: [V, 14 · count], an attribute of all Gaussians together: 3 · count of positions, then of colors and
            of scales, 4 · count of rotations, count opacities.
        cells: Coordinates x, y, z of the voxels [V, 3].
        resolution: Cells of the grid per axis.
        perturbation: Starting offsets [count, 3]; see `offset_perturbation`.
        form: How features become Gaussians.

    Returns:
        V · count Gaussians; those of a voxel follow each other.
    """
    n = form.count
    parts = features.float().split([3 * n, 3 * n, 3 * n, 4 * n, n], dim=-1)
    offsets, colors, scales, rotations, opacities = (p.unflatten(-1, (n, -1)) for p in parts)
    centers = (cells.float() + 0.5) / resolution - 0.5
    reach = torch.tanh(offsets + perturbation) / resolution * 0.5 * form.voxel_size
    return RawGaussians(
        means=(centers[:, None] + reach).flatten(0, 1),
        colors=colors.flatten(0, 1),
        scales=scales.flatten(0, 1),
        rotations=form.rotation_multiplier * rotations.flatten(0, 1),
        opacities=opacities.flatten(),
        format=form,
    )
