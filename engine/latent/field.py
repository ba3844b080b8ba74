"""A latent field: the Gaussians of a moving scene with latent features beside their colours."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..lru import LruCache
from ..models.latent_refiner import LatentRefiner
from ..render import Rasterizer
from ..scene import Gaussians, Scene4D
from .rasterize import Drawing, draw, latent_cameras, min_scales
from .vae_signature import VaeSignature

KEPT_BYTES = 256_000_000  # of Gaussians moved to moments


@dataclass(frozen=True, eq=False)
class LatentField:
    """Geometry and motion are the scene's own; what an edit of the latents moves of them, it moves there."""

    scene: Scene4D
    features: (
        Tensor  # [N, K, C]; K = 1, or 4 where latents depend on the viewing direction; no sigmoid, no offset
    )
    background: Tensor  # [C] the latent of what the scene does not cover
    size: tuple[int, int]  # (width, height) of the pictures that its latents decode to
    vae: VaeSignature
    refiner: LatentRefiner | None = None  # frozen; None = latents as they are drawn
    how: Drawing = field(default_factory=Drawing)
    before: LatentField | None = None  # the field that this one is an edit of

    def __post_init__(self) -> None:
        n, c = len(self.scene.canonical), self.vae.channels
        if self.features.shape[0] != n or self.features.shape[2:] != (c,):
            raise InputError(
                "LAT-001",
                f"The latent field has features of shape {tuple(self.features.shape)}, its scene {n} Gaussians and its "
                f"autoencoder {c} channels; train the field anew with this scene.",
            )

    def with_(self, **changed: Any) -> LatentField:
        return replace(self, **changed)

    def with_history(self, step: str, **entry: Any) -> LatentField:
        return replace(self, scene=self.scene.with_history(step, **entry))

    def to(self, device: torch.device | str) -> LatentField:
        return replace(
            self,
            scene=self.scene.to(device),
            features=self.features.to(device),
            background=self.background.to(device),
            # a module moves in place, and this value is never changed
            refiner=None if self.refiner is None else copy.deepcopy(self.refiner).to(device),
            before=None if self.before is None else self.before.to(device),
        )

    def summary(self) -> str:
        """Two lines about the field."""
        (width, height), vae = self.size, self.vae
        layer = (
            "no refinement layer"
            if self.refiner is None
            else f"refinement layer with {self.refiner.shape.width} channels"
        )
        return (
            f"{len(self.scene.canonical)} Gaussians with {vae.channels} latent channels of {vae.name}\n"
            f"{width // vae.factor}×{height // vae.factor} latents for images of {width}×{height}, {layer}"
        )


class FieldRenderer:
    """Latents of a field at any view and moment, with features of one's own where they learn."""

    def __init__(self, latents: LatentField, rasterizer: Rasterizer) -> None:
        self.field, self.rasterizer = latents, rasterizer
        self.cameras = latent_cameras(latents.scene.rig, latents.size, latents.vae.factor)
        self.least = min_scales(latents.scene, self.cameras, latents.how)
        self._moments: LruCache[float, Gaussians] = LruCache(
            KEPT_BYTES, lambda g: sum(t.nbytes for t in g.tensors().values()), at_least=1
        )

    def gaussians(self, seconds: float) -> Gaussians:
        """The frozen Gaussians at a time; those of the last moments are kept."""
        found = self._moments.get(seconds)
        if found is None:
            with torch.no_grad():
                found = self.field.scene.at(seconds)
            self._moments.put(seconds, found)
        return found

    def draw(
        self,
        views: Sequence[int],
        gaussians: Gaussians,
        features: Tensor | None = None,
        background: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Unrefined latents [B, C, h, w] and coverage [B, h, w]; differentiable in what is given."""
        f = self.field
        drawn, alpha, _ = draw(
            gaussians,
            f.features if features is None else features,
            f.background if background is None else background,
            self.cameras[list(views)],
            self.rasterizer,
            f.how,
            self.least,
        )
        return drawn, alpha

    @torch.no_grad()
    def latents(self, views: Sequence[int], seconds: float, refined: bool = True) -> tuple[Tensor, Tensor]:
        """The field's latents [B, C, h, w] and coverage [B, h, w] of views of the rig at one time."""
        drawn, alpha = self.draw(views, self.gaussians(seconds))
        if refined and self.field.refiner is not None:
            drawn = self.field.refiner(drawn)
        return drawn, alpha
