"""Which motion is trained: the ones that ship are registered here, in the order in which they are offered."""

from __future__ import annotations

from torch import Tensor

from ..deform import HexPlane, Masked, PerFrame
from ..errors import InputError
from ..scene import Deformation, Static
from .frozen_motion import FrozenMotion
from .head_motion import BoundMeshMotion
from .hexplane_motion import HexPlaneMotion
from .motion import (
    NAMES,
    MotionStart,
    TrainableMotion,
    find,
    find_start,
    find_trainer,
    register,
    register_start,
    register_trainer,
)
from .per_frame_motion import PerFrameMotion

__all__ = ["NAMES", "can_train", "create", "trainer_of"]

PRESETS = ("small", "dnerf", "hypernerf", "dynerf")
for preset in PRESETS:
    register(preset, HexPlaneMotion.create)
register_trainer(HexPlane.kind, HexPlaneMotion.adopt)
register("per_frame", PerFrameMotion.create)
register_trainer(PerFrame.kind, PerFrameMotion.adopt)
for kind in (HexPlane.kind, Masked.kind):
    register_start(kind, PRESETS, HexPlaneMotion.continued)
register_start(PerFrame.kind, ("per_frame",), PerFrameMotion.continued)


def create(start: MotionStart) -> TrainableMotion | None:
    """The motion that the config asks for; None for a static scene.

    Raises InputError where the start scene has a motion of another kind.
    """
    if start.head is not None:
        return BoundMeshMotion.create(start)
    if start.scene is not None and not isinstance(start.scene.deformation, Static):
        return _continued(start, start.scene.deformation)
    if start.config.motion == "none" or start.video.moments < 2:
        return None
    return find(start.config.motion)(start)


def _continued(start: MotionStart, deformation: Deformation) -> TrainableMotion:
    """The start scene's motion, frozen or trained on."""
    if start.config.start_motion == "frozen":
        return FrozenMotion.create(start)
    found = find_start(deformation.kind)
    if found is None:
        raise InputError(
            "TRN-033",
            f"The start scene's motion (kind '{deformation.kind}') cannot be trained on; set start motion to frozen.",
        )
    names, create = found
    if start.config.motion not in names:
        raise InputError(
            "TRN-034",
            f"The start scene's motion is of the kind '{deformation.kind}', but motion is '{start.config.motion}'. Set motion "
            f"to {' or '.join(names)}, or start motion to frozen.",
        )
    return create(start)


def can_train(deformation: Deformation) -> bool:
    """Whether `trainer_of` finds something to train."""
    part = deformation.trainable()
    return part is not None and find_trainer(part.kind) is not None


def trainer_of(deformation: Deformation, times: Tensor) -> TrainableMotion | None:
    """What trains a finished deformation in place; None where there is nothing to train."""
    part = deformation.trainable()
    trainer = None if part is None else find_trainer(part.kind)
    return None if part is None or trainer is None else trainer(part, times)
