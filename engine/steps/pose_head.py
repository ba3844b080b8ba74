"""Set, offset, scale or freeze the expressions, jaw, gaze and neck of a scene that is bound to a head."""

from __future__ import annotations

from dataclasses import dataclass

from ..deform.head_scenes import motion_of, with_motion
from ..fields import as_record, choice, number, text, validate
from ..heads import Head
from ..heads.reenact import DRIVEN, frozen, tracks, turned_by, with_tracks
from ..scene import Scene4D
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

FREEZE = ("nothing", *DRIVEN)


def _degrees(help: str, limit: float = 90.0) -> float:
    return number(0.0, -limit, limit, f"{help}, in degrees. 0 leaves it as it is.", 1.0)


@dataclass(frozen=True)
class Config:
    expressions: str = text(
        "",
        "One expression per line: a value such as 'mouthSmileLeft = 0.8', or keyframes 'jawOpen = 0:0, 0.5:0.7' "
        "(seconds:value). 'expr 12' names a coefficient by number.",
        multiline=True,
    )
    mode: str = choice(
        "set",
        ("set", "add", "scale"),
        "What the values above do to the recorded ones: replace, add to or multiply them.",
    )
    jaw: float = _degrees("Opens the jaw by this much", 45.0)
    gaze_sideways: float = _degrees("Turns both eyes to the subject's left", 60.0)
    gaze_up: float = _degrees("Turns both eyes upward", 60.0)
    turn: float = _degrees("Turns the neck to the subject's left")
    nod: float = _degrees("Tilts the neck downward")
    tilt: float = _degrees("Tilts the neck to the subject's right shoulder")
    freeze: str = choice(
        "nothing",
        FREEZE,
        "Holds this part of the motion at the frame below; the values above are applied afterwards.",
    )
    frame: int = number(0, 0, 1_000_000, "Frame at which the motion is frozen.", label="freeze at frame")

    def __post_init__(self) -> None:
        validate(self)


def run(scene: Scene4D, head: Head, config: Config = Config()) -> Scene4D:
    """The scene with its head posed anew; Gaussians and bindings stay bit for bit.

    Args:
        scene: A scene whose Gaussians are bound to a head.
        head: The head model that it was trained with; its motion is not used.
        config: What to change.

    Raises:
        InputError: The scene has no head or another one; an expression is unknown or not a number.
    """
    c = config
    motion = motion_of(scene, head.model)
    if c.freeze != "nothing":
        motion = frozen(motion, c.freeze, min(c.frame, len(motion) - 1))
    motion = with_tracks(motion, tracks(c.expressions, head.model, motion.times), c.mode)
    for name, turn in (
        ("jaw_pose", (c.jaw, 0.0, 0.0)),
        ("eyes_pose", (-c.gaze_up, c.gaze_sideways, 0.0)),
        ("neck_pose", (c.nod, c.turn, c.tilt)),
    ):
        if any(turn):
            motion = turned_by(motion, name, turn)
    return with_motion(scene, head.model, motion).with_history("pose_head", config=as_record(c))


STEP = Step(
    name="pose_head",
    node="PoseHead",
    label="Pose Head",
    category="4dgs/heads",
    description="Poses the head of a scene: named expressions over time, jaw, gaze and neck.",
    search=("expression", "smile", "blend shapes", "gaze", "jaw", "arkit"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "A scene trained with a head."),
        Input("head", Kind.HEAD, "The head model that the scene was trained with."),
    ),
    outputs=(Output("scene_out", Kind.SCENE, "The scene with the changed expression and pose.", "scene"),),
    verb="pose-head",
    has_device=False,
    note=Scene4D.summary,
)
