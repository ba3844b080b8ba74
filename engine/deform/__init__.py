"""Deformations: what moves canonical Gaussians to a moment. `KINDS` is how files find the class of a stored one."""

from ..scene.scene4d import Still
from .field import Deformation, TrainableDeformation
from .frozen_appearance import Muted, muted
from .hexplane import PRESETS, HexPlane, HexPlaneConfig
from .masked import Partly
from .per_frame import Flipbook

KINDS: dict[str, type[Still] | type[HexPlane] | type[Partly] | type[Flipbook] | type[Muted]] = {
    Still.kind: Still,
    HexPlane.kind: HexPlane,
    Partly.kind: Partly,
    Flipbook.kind: Flipbook,
    Muted.kind: Muted,
}

__all__ = [
    "KINDS",
    "PRESETS",
    "Deformation",
    "Flipbook",
    "HexPlane",
    "HexPlaneConfig",
    "Muted",
    "Partly",
    "Still",
    "TrainableDeformation",
    "muted",
]
