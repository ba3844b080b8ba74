"""Deformations: what moves canonical Gaussians to a moment. `KINDS` is how files find the class of a stored one."""

from ..scene.scene4d import Still
from .field import Deformation, TrainableDeformation
from .flipbook import Flipbook
from .hexplane import PRESETS, HexPlane, HexPlaneConfig
from .muted import Muted, muted
from .partly import Partly

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
