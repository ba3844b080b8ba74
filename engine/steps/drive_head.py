"""Reenactment: a head moves as another motion does (GaussianAvatars, section 4.3: self and cross-identity)."""

from __future__ import annotations

from dataclasses import dataclass

from ..deform.head_scenes import motion_of, with_motion
from ..fields import as_record, choice, flag, number, validate
from ..heads import Head
from ..heads.reenact import DRIVEN, drive
from ..scene import Scene4D
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config:
    driven: str = choice(
        "everything",
        tuple(DRIVEN),
        "What the driver moves; the rest stays as in the scene's most neutral frame. face is expression, jaw and eyes; "
        "head is position, rotation and neck.",
        label="driven part",
    )
    relative: bool = flag(
        True,
        "Transfers the driver's change since its most neutral frame, which keeps the subject's own neutral face. Off uses "
        "the driver's values as they are.",
        label="relative to neutral",
    )
    amplitude: float = number(
        1.0, 0.0, 4.0, "Strength of expression and jaw. Higher exaggerates; 1 is the driver's own.", 0.05
    )
    smoothing: float = number(
        0.0,
        0.0,
        100.0,
        "Smooths the driver over this many frames. Higher is calmer and slower to react; typical 1 for webcams.",
        0.1,
        label="smoothing (frames)",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(scene: Scene4D, head: Head, driver: Head, config: Config = Config()) -> Scene4D:
    """The scene moving as the driver does; shape, static offset, Gaussians and bindings stay bit for bit.

    Args:
        scene: A scene whose Gaussians are bound to a head.
        head: The head model that it was trained with; its motion is not used.
        driver: The motion to take, for the same head model.
        config: What is driven, and how.

    Returns:
        A scene with the driver's frames and times.

    Raises:
        InputError: The scene has no head or another one, or the driver's parameters are another model's.
    """
    own = motion_of(scene, head.model)
    motion = drive(own, driver.motion, config.driven, config.relative, config.amplitude, config.smoothing)
    driven = with_motion(scene, head.model, motion)
    return driven.with_history("drive_head", config=as_record(config), driver=driver.name)


STEP = Step(
    name="drive_head",
    node="DriveHead",
    label="Drive Head",
    category="4dgs/heads",
    description="Makes the head of a scene move as a recorded motion does: its own held-out sequence or another person's.",
    search=("reenact", "reenactment", "puppet", "cross identity", "talking head"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "A scene trained with a head."),
        Input("head", Kind.HEAD, "The head model that the scene was trained with."),
        Input("driver", Kind.HEAD, "The motion to follow, from Load Head.", flag="driver"),
    ),
    outputs=(Output("scene_out", Kind.SCENE, "The scene with the motion of the other head.", "scene"),),
    verb="drive-head",
    has_device=False,
    note=Scene4D.summary,
)
