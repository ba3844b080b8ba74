"""A deformation of some Gaussians only, so that static ones cost nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.gaussians import Gaussians
from .hexplane import HexPlane


class Masked:
    """Moves only where `moving` [N] is true; the other Gaussians keep their values bit for bit."""

    kind: ClassVar[str] = "partly"

    def __init__(self, inner: HexPlane, moving: Tensor) -> None:
        self.inner, self.moving = inner, moving

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The inner field applied to the moving Gaussians. Raises InputError where the number of Gaussians has changed."""
        if len(gaussians) != len(self.moving):
            raise InputError(
                "DEF-013",
                f"This scene's deformation is stored for {len(self.moving)} Gaussians, but there are {len(gaussians)}. Another "
                "program changed their number, or the file is damaged; load the scene as it was saved here.",
            )
        return self.inner.deform_active(gaussians, seconds, self.moving)

    def config(self) -> dict[str, Any]:
        return {"inner": self.inner.config()}

    def tensors(self) -> dict[str, Tensor]:
        return {"moving": self.moving, **{f"inner.{name}": t for name, t in self.inner.tensors().items()}}

    def to(self, device: torch.device | str) -> Masked:
        return Masked(self.inner.to(device), self.moving.to(device))

    def take(self, index: Tensor) -> Masked:
        """The same inner field, and whether Gaussians `index` [M] move."""
        return Masked(self.inner, self.moving[index.to(self.moving.device)])

    def trainable(self) -> HexPlane:
        return self.inner

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Masked:
        if "moving" not in tensors or tensors["moving"].dtype != torch.bool or "inner" not in config:
            raise InputError(
                "DEF-014", "Partly: 'moving' is missing or is not a boolean tensor; the file is damaged."
            )
        inner = {name.removeprefix("inner."): t for name, t in tensors.items() if name.startswith("inner.")}
        return cls(HexPlane.from_parts(config["inner"], inner), tensors["moving"])
