"""Which animation of a mesh is taken, and how the mesh is placed on a splat."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, number, text, validate
from ..scene.rigs import UPS

AUTO = "auto"


@dataclass(frozen=True)
class MeshConfig:
    """Settings of every step that takes an animated mesh and a splat."""

    action: str = text("", "Name of the animation in the file. Empty takes the first.")
    fps: float = number(
        24.0,
        1.0,
        240.0,
        "Frames per second that are taken from the animation. Higher follows fast motion more closely.",
        1.0,
        label="frames per second",
    )
    fit: str = choice(
        AUTO,
        (AUTO, "bounds", "off"),
        "How the mesh is placed on the splat. auto finds turn, scale and position; bounds matches the bounding boxes with the "
        "up axis and turn below; off uses the mesh's own coordinates.",
        label="fit mesh to splat",
    )
    up: str = choice(
        AUTO,
        (AUTO, *UPS),
        "Up axis of the splat; the mesh's is y up, as glTF defines. auto finds it. ComfyUI's own splats have y down.",
        label="up axis",
    )
    turn: float = number(
        0.0,
        -180.0,
        180.0,
        "Turns the mesh about the up axis before it is fitted, in degrees. 180 if the splat faces the other way; 0 with fit "
        "auto tries quarter turns.",
        1.0,
    )
    pose: str = choice(
        AUTO,
        (AUTO, "rest", "first frame"),
        "Pose of the mesh that the splat shows. rest is the file without its animation, often arms spread; auto takes the one "
        "that fits better.",
        label="matching pose",
    )
    hidden: str = text(
        "", "Names of meshes or nodes in the file to ignore, separated by commas.", label="leave out"
    )

    def __post_init__(self) -> None:
        validate(self)

    @property
    def hidden_names(self) -> tuple[str, ...]:
        """The names in `hidden`, lowercase."""
        return tuple(filter(None, (name.strip().lower() for name in self.hidden.split(","))))
