"""Deformations: what moves canonical Gaussians to a time. `KINDS` is how files find the class of a stored one."""

from ..scene.scene4d import Deformation, Static
from .bound_mesh import BoundMesh
from .frozen_appearance import FrozenAppearance, freeze_appearance
from .graded import Graded, graded_deformation
from .hexplane import PRESETS, HexPlane, HexPlaneConfig
from .masked import Masked
from .per_frame import PerFrame

AnyKind = (
    type[Static]
    | type[HexPlane]
    | type[Masked]
    | type[PerFrame]
    | type[FrozenAppearance]
    | type[BoundMesh]
    | type[Graded]
)
KINDS: dict[str, AnyKind] = {
    Static.kind: Static,
    HexPlane.kind: HexPlane,
    Masked.kind: Masked,
    PerFrame.kind: PerFrame,
    FrozenAppearance.kind: FrozenAppearance,
    BoundMesh.kind: BoundMesh,
    Graded.kind: Graded,
}

__all__ = [
    "KINDS",
    "PRESETS",
    "BoundMesh",
    "Deformation",
    "FrozenAppearance",
    "Graded",
    "HexPlane",
    "HexPlaneConfig",
    "Masked",
    "PerFrame",
    "Static",
    "freeze_appearance",
    "graded_deformation",
]
