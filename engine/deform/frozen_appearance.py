"""A deformation without appearance changes: opacity and color stay those of the canonical Gaussians.

4D Gaussian Splatting's presets for real captures also let the field change opacity and spherical harmonics. On an edit of
the canonical colors, the old appearance changes are then added in every frame, as in Instruct-4DGS. With frozen
appearance, an edit looks the same in every frame.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.gaussians import Gaussians
from ..scene.scene4d import Deformation, Static


class FrozenAppearance:
    """Positions, scales and rotations of the inner deformation; opacity and SH are unchanged bit for bit."""

    kind: ClassVar[str] = "muted"

    def __init__(self, inner: Deformation) -> None:
        self.inner = inner

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The inner deformation's geometry."""
        moved = self.inner.deform(gaussians, seconds)
        return moved.with_(logit_opacities=gaussians.logit_opacities, sh=gaussians.sh)

    def config(self) -> dict[str, Any]:
        return {"inner": {"kind": self.inner.kind, "config": self.inner.config()}}

    def tensors(self) -> dict[str, Tensor]:
        return {f"inner.{name}": t for name, t in self.inner.tensors().items()}

    def to(self, device: torch.device | str) -> FrozenAppearance:
        return FrozenAppearance(self.inner.to(device))

    def take(self, index: Tensor) -> FrozenAppearance:
        return FrozenAppearance(self.inner.take(index))

    def trainable(self) -> Deformation | None:
        return self.inner.trainable()

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FrozenAppearance:
        """Raises InputError where the inner deformation is missing, of an unknown kind, or has frozen appearance itself."""
        # imported here because KINDS lists this class
        from . import KINDS

        inner = config.get("inner")
        kind = inner.get("kind") if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or kind not in KINDS or kind == cls.kind:
            known = ", ".join(name for name in KINDS if name != cls.kind)
            raise InputError(
                "DEF-001",
                f"Muted: its inner deformation is of the unknown kind '{str(kind)[:40]}' (known: {known}); the file is damaged "
                "or from a newer version.",
            )
        parts = {name.removeprefix("inner."): t for name, t in tensors.items() if name.startswith("inner.")}
        return cls(KINDS[kind].from_parts(dict(inner.get("config", {})), parts))


def freeze_appearance(deformation: Deformation) -> Deformation:
    """The deformation without appearance changes; itself where it already has none or is static."""
    return (
        deformation if isinstance(deformation, FrozenAppearance | Static) else FrozenAppearance(deformation)
    )
