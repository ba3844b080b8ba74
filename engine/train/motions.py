"""Which motion is trained: the ones that ship are registered here, in the order in which they are offered."""

from __future__ import annotations

from torch import Tensor

from ..deform import HexPlane, PerFrame
from ..scene import Deformation
from .head_motion import BoundMeshMotion
from .hexplane_motion import HexPlaneMotion
from .motion import NAMES, MotionStart, TrainableMotion, find, find_trainer, register, register_trainer
from .per_frame_motion import PerFrameMotion

__all__ = ["NAMES", "can_train", "create", "trainer_of"]

for preset in ("small", "dnerf", "hypernerf", "dynerf"):
    register(preset, HexPlaneMotion.create)
register_trainer(HexPlane.kind, HexPlaneMotion.adopt)
register("per_frame", PerFrameMotion.create)
register_trainer(PerFrame.kind, PerFrameMotion.adopt)


def create(start: MotionStart) -> TrainableMotion | None:
    """The motion that the config asks for; None for a static scene."""
    if start.head is not None:
        return BoundMeshMotion.create(start)
    if start.config.motion == "none" or start.video.moments < 2:
        return None
    return find(start.config.motion)(start)


def can_train(deformation: Deformation) -> bool:
    """Whether `trainer_of` finds something to train."""
    part = deformation.trainable()
    return part is not None and find_trainer(part.kind) is not None


def trainer_of(deformation: Deformation, times: Tensor) -> TrainableMotion | None:
    """What trains a finished deformation in place; None where there is nothing to train."""
    part = deformation.trainable()
    trainer = None if part is None else find_trainer(part.kind)
    return None if part is None or trainer is None else trainer(part, times)
