"""A latent field: the Gaussians of a 4D scene with latent features in addition to their colors."""

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

# size of the cache of deformed Gaussians
KEPT_BYTES = 256_000_000


@dataclass(frozen=True, eq=False)
class LatentField:
    """A scene with latent features; geometry and motion are the scene's.

    Args:
        scene: The 4D scene, N Gaussians.
        features: [N, K, C]; K = 1, or 4 if latents depend on the viewing direction; without sigmoid or offset.
        background: Latent [C] of pixels that the scene does not cover.
        size: (width, height) in pixels of the decoded images.
        vae: The autoencoder that the latents belong to.
        refiner: Refinement layer, frozen; None: latents as rasterized.
        how: Settings of the rasterization.
        before: The field before its edit; None: not edited.

    Raises:
        InputError: `features` does not fit the scene or the autoencoder.
    """

    scene: Scene4D
    features: Tensor
    background: Tensor
    size: tuple[int, int]
    vae: VaeSignature
    refiner: LatentRefiner | None = None
    how: Drawing = field(default_factory=Drawing)
    before: LatentField | None = None

    def __post_init__(self) -> None:
        n, c = len(self.scene.canonical), self.vae.channels
        if self.features.shape[0] != n or self.features.shape[2:] != (c,):
            raise InputError(
                "LAT-001",
                f"The latent field has features of shape {tuple(self.features.shape)}, but its scene has {n} Gaussians and "
                f"its VAE {c} channels; train the field again with this scene.",
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
            # a copy, because a module moves in place and this field must not change
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
    """Renders the latents of a field for any view and time; features can be passed in to be optimized."""

    def __init__(self, latents: LatentField, rasterizer: Rasterizer) -> None:
        self.field, self.rasterizer = latents, rasterizer
        self.cameras = latent_cameras(latents.scene.rig, latents.size, latents.vae.factor)
        self.least = min_scales(latents.scene, self.cameras, latents.how)
        self._moments: LruCache[float, Gaussians] = LruCache(
            KEPT_BYTES, lambda g: sum(t.nbytes for t in g.tensors().values()), at_least=1
        )

    def gaussians(self, seconds: float) -> Gaussians:
        """The frozen Gaussians at a time in seconds; the latest ones are cached."""
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
        """Unrefined latents [B, C, h, w] and coverage [B, h, w]; differentiable in all tensor arguments."""
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
        """Render the field's latents.

        Args:
            views: B indices of views of the rig.
            seconds: Time.
            refined: Apply the refinement layer, if there is one.

        Returns:
            Latents [B, C, h, w] and coverage [B, h, w] in 0..1.
        """
        drawn, alpha = self.draw(views, self.gaussians(seconds))
        if refined and self.field.refiner is not None:
            drawn = self.field.refiner(drawn)
        return drawn, alpha
