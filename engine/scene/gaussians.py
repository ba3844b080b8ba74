"""The canonical Gaussians of a scene: five tensors, stored before activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..errors import InputError
from . import harmonics, rotations


@dataclass(frozen=True, eq=False)
class ActivatedGaussians:
    """What a renderer or a file sees: linear scales, unit quaternions, opacities in 0..1."""

    means: Tensor  # [N, 3] world units
    quats: Tensor  # [N, 4] wxyz, unit
    scales: Tensor  # [N, 3] linear, world units
    opacities: Tensor  # [N] in 0..1
    sh: Tensor  # [N, K, 3], index 0 = DC


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N Gaussians, pre-activation, as they are optimized and stored. Never changed in place.

    Raises:
        InputError: Tensors whose shapes do not agree.

    Example:
        brighter = gaussians.with_(sh=gaussians.sh * 1.1)
        scales = gaussians.activated().scales
    """

    means: Tensor  # [N, 3] world units
    log_scales: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] wxyz, of any nonzero length
    logit_opacities: Tensor  # [N]
    sh: Tensor  # [N, K, 3], index 0 = DC, K = 1, 4, 9 or 16

    def __post_init__(self) -> None:
        n = self.means.shape[0]
        wanted = {"means": (n, 3), "log_scales": (n, 3), "quats": (n, 4), "logit_opacities": (n,)}
        for name, shape in wanted.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise InputError(
                    "SCN-002",
                    f"Gaussians: {name} has shape {got}, expected {shape}; the tensors of a scene must agree.",
                )
        if (
            self.sh.ndim != 3
            or self.sh.shape[0] != n
            or self.sh.shape[2] != 3
            or self.sh.shape[1] not in (1, 4, 9, 16)
        ):
            raise InputError(
                "SCN-003", f"Gaussians: sh has shape {tuple(self.sh.shape)}, expected ({n}, 1|4|9|16, 3)."
            )

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        return harmonics.degree_of(self.sh.shape[1])

    @property
    def device(self) -> torch.device:
        return self.means.device

    def tensors(self) -> dict[str, Tensor]:
        """The five tensors by field name, in field order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """The same Gaussians with a function applied to each tensor.

        Args:
            function: For example `lambda t: t.to(device)`, or `lambda t: t[index]` for a subset.
        """
        return Gaussians(**{name: function(tensor) for name, tensor in self.tensors().items()})

    def with_(self, **changed: Tensor) -> Gaussians:
        """A copy with some of the five tensors replaced."""
        return replace(self, **changed)

    def activated(self) -> ActivatedGaussians:
        """The values that a renderer uses; differentiable.

        Returns:
            Linear scales, unit quaternions, and opacities in 0..1.
        """
        return ActivatedGaussians(
            means=self.means,
            quats=rotations.normalise(self.quats),
            scales=self.log_scales.exp(),
            opacities=self.logit_opacities.sigmoid(),
            sh=self.sh,
        )

    @staticmethod
    def from_activated(a: ActivatedGaussians) -> Gaussians:
        """The inverse of `activated`; opacities are clamped away from 0 and 1, so that their logits stay finite."""
        return Gaussians(
            means=a.means,
            log_scales=a.scales.clamp(min=1e-12).log(),
            quats=a.quats,
            logit_opacities=a.opacities.clamp(1e-6, 1 - 1e-6).logit(),
            sh=a.sh,
        )

    @staticmethod
    def concatenate(parts: list[Gaussians]) -> Gaussians:
        """All Gaussians of `parts` in order; SH is padded with zeros to the largest degree."""
        k = max(p.sh.shape[1] for p in parts)
        padded = [p.with_(sh=torch.nn.functional.pad(p.sh, (0, 0, 0, k - p.sh.shape[1]))) for p in parts]
        return Gaussians(
            **{name: torch.cat([getattr(p, name) for p in padded]) for name in padded[0].tensors()}
        )
