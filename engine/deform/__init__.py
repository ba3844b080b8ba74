"""Deformations: what moves canonical Gaussians to a moment. `KINDS` is how files find the class of a stored one."""

from ..scene.scene4d import Deformation, Static
from .frozen_appearance import FrozenAppearance, freeze_appearance
from .hexplane import PRESETS, HexPlane, HexPlaneConfig
from .masked import Masked
from .per_frame import PerFrame

KINDS: dict[str, type[Static] | type[HexPlane] | type[Masked] | type[PerFrame] | type[FrozenAppearance]] = {
    Static.kind: Static,
    HexPlane.kind: HexPlane,
    Masked.kind: Masked,
    PerFrame.kind: PerFrame,
    FrozenAppearance.kind: FrozenAppearance,
}

__all__ = [
    "KINDS",
    "PRESETS",
    "Deformation",
    "FrozenAppearance",
    "HexPlane",
    "HexPlaneConfig",
    "Masked",
    "PerFrame",
    "Static",
    "freeze_appearance",
]
